"""A workspace of one project, and tiny models to put into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgery.workspace import Project, Workspace


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    return Workspace(tmp_path / "home", who="ada")


@pytest.fixture
def project(ws: Workspace) -> Project:
    return ws.create_project("Digits")
