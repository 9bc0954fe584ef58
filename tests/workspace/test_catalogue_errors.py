"""A catalogue or folder that cannot be used is named in words, with what to do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from surgery.errors import DiskFullError, WorkspaceError
from surgery.workspace import Project, Workspace, catalogue


def test_one_that_is_busy(ws: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "WAIT", 0.1)
    again = Workspace(ws.home)
    with closing(sqlite3.connect(ws.home / "catalogue.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(WorkspaceError, match=r"catalogue .*catalogue\.db was busy .* another process writes"):
            again.rename_project(project.id, "Other")
        other.execute("ROLLBACK")
    assert again.rename_project(project.id, "Other").name == "Other"


def test_one_that_is_damaged_while_it_is_in_use(ws: Workspace, project: Project) -> None:
    with closing(sqlite3.connect(ws.home / "catalogue.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((ws.home / "catalogue.db").read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    ws.store.engine.dispose()
    (ws.home / "catalogue.db").write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"is damaged: .* Run `surgery doctor`"):
        ws.projects()


def test_one_that_is_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    (tmp_path / "catalogue.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(WorkspaceError, match="is damaged: file is not a database"):
        Workspace(tmp_path)


def test_one_that_cannot_be_written(ws: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///file:{ws.home / 'catalogue.db'}?mode=ro&uri=true"
    monkeypatch.setenv("SURGERY_DATABASE", url)
    reader = Workspace(ws.home)
    assert reader.projects() == [project]
    with pytest.raises(WorkspaceError, match=r"cannot be written: .* Give yourself the right to write"):
        reader.rename_project(project.id, "Other")


def test_one_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURGERY_DATABASE", f"sqlite:///{tmp_path}/no/such/folder/team.db")
    with pytest.raises(WorkspaceError, match=r"cannot be used: unable to open .* Check its path or address"):
        Workspace(tmp_path / "home")


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(WorkspaceError, match=r"folder .* cannot be used: Permission denied\. Set SURGERY_HOME"):
        Workspace(tmp_path / "theirs")


def test_one_that_cannot_grow(ws: Workspace, project: Project) -> None:
    with ws.store.engine.connect() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar() or 0
        db.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(DiskFullError, match="the catalogue could not be written"), ws.store.write() as db:
        for _ in range(200):
            ws.store.record(db, "x" * 10_000)
