"""What is quarantined is refused before a job exists."""

from __future__ import annotations

import pytest

from surgery import jobs
from surgery.errors import DamagedError
from surgery.workspace import integrity, queue
from tests.patients import mlp


def test_a_quarantined_version_is_refused_at_submission(ws, project):
    version = ws.commit(project.id, mlp(), name="one")
    with ws.store.read() as db:
        row = db.execute(integrity.KINDS["versions"].select()).mappings().one()
    integrity.quarantine(ws.store, "versions", row, ["model.safetensors changed"])
    task = {"kind": "export", "version": version.id, "format": "safetensors"}
    with pytest.raises(DamagedError, match=r"Version 1 'one' is quarantined.*surgery doctor"):
        jobs.submit(ws, task, project=project.id, title="Export")
    assert queue.listing(ws.store, None) == []
