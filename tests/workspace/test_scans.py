"""A scan whose files have changed is set aside and counts as not made."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.workspace import Project, Workspace, scans
from tests.patients import mlp


@pytest.fixture
def named(ws: Workspace, project: Project) -> tuple[str, str]:
    """A version and a dataset."""

    def make(folder: Path) -> Dataset:
        x, y = [[float(i), 1.0] for i in range(40)], [i % 2 for i in range(40)]
        return from_arrays(folder, x, y, classes=("a", "b"), name="points", task="classification")

    return ws.commit(project.id, mlp(), name="one").id, ws.add_dataset(project.id, "points", make).id


def write(folder: Path) -> None:
    (folder / "scan.json").write_text("{}")
    (folder / "scan.safetensors").write_bytes(bytes(1000))


def test_a_changed_byte_sets_it_aside(ws: Workspace, named: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "_PATIENCE", 0.0)
    folder = ws.add_scan(*named, {}, write)
    assert ws.has_scan(*named, {})
    content = bytearray((folder / "scan.safetensors").read_bytes())
    content[500] ^= 1
    (folder / "scan.safetensors").write_bytes(content)
    scans._whole.clear()
    assert not ws.has_scan(*named, {}) and not folder.exists()
    (aside,) = (ws.home / "quarantine").iterdir()
    assert (aside / "scan.safetensors").read_bytes() == content
    assert "set a damaged scan aside: scan.safetensors changed" in ws.events(None)[0].what
    assert ws.add_scan(*named, {}, write).exists() and ws.has_scan(*named, {})


def test_what_jobs_add_belongs_to_it(ws: Workspace, named: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "_PATIENCE", 0.0)
    folder = ws.add_scan(*named, {}, write)
    (folder / "unfinished.part").write_text("a job is about to replace a file with this")
    assert ws.has_scan(*named, {})
    with scans.extending(folder):
        (folder / "unfinished.part").replace(folder / "map.parquet")
        (folder / "scan.json").write_text('{"more": 1}')
    assert ws.has_scan(*named, {})
    (folder / "map.parquet").write_text("changed")
    scans._whole.clear()
    assert not ws.has_scan(*named, {})


def test_a_page_waits_for_a_job_that_is_noting_its_checksums(ws: Workspace, named: tuple[str, str]) -> None:
    from threading import Timer

    folder = ws.add_scan(*named, {}, write)
    (folder / "scan.json").write_text('{"more": 1}')

    def note() -> None:
        with scans.extending(folder):
            pass

    timer = Timer(0.2, note)
    timer.start()
    assert ws.has_scan(*named, {})
    timer.join()
