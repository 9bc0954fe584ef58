"""The whole workspace in one archive, and back."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from surgery.cli import main
from surgery.errors import WorkspaceError
from surgery.workspace import Project, Workspace, backup, liveness, queue
from surgery.workspace.queue import Worker
from surgery.workspace.trash import BACKUP_LOCK
from tests.patients import mlp


@pytest.fixture
def archive(ws: Workspace, project: Project, tmp_path: Path) -> Path:
    """An archive of two versions and a job that runs."""
    for name in ("one", "two"):
        ws.commit(project.id, mlp(), name=name)
    queue.add(ws.store, {"kind": "x"}, project=project.id, title="Busy", lane="long", device="", limit=60)
    with ws.store.write() as db:
        queue.claim(ws.store, db, queue.waiting(db)[0], "cpu", lambda: Worker(2**22 + 1, 0.0, liveness.here(), None))
    ws.save_selection(project.id, ws.versions(project.id)[0].id, "some", [1, 2])
    made = backup.backup(ws.store, tmp_path / "all.zip")
    assert made.damaged == () and made.files > 8
    return tmp_path / "all.zip"


def test_it_comes_back_whole(ws: Workspace, project: Project, archive: Path, tmp_path: Path) -> None:
    backup.restore(archive, tmp_path / "new")
    again = Workspace(tmp_path / "new", who="ada")
    assert again.projects() == ws.projects()
    assert [version.name for version in again.versions(project.id)] == ["one", "two"]
    assert all(again.verify(version.id) == version.digest for version in again.versions(project.id))
    assert again.selections(project.id) == ws.selections(project.id)
    (job,) = queue.listing(again.store, None)
    assert job.state == "failed" and "backup was made" in job.reason
    assert again.home.stat().st_mode & 0o077 == 0


def test_a_changed_byte_is_named_and_nothing_is_left(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(tmp_path / "bad.zip", "w") as target:
        name = next(name for name in source.namelist() if name.endswith("model.safetensors"))
        for one in source.namelist():
            content = source.read(one)
            target.writestr(one, content[:-1] + bytes([content[-1] ^ 1]) if one == name else content)
    with pytest.raises(WorkspaceError, match=rf"{name} in the archive is damaged"):
        backup.restore(tmp_path / "bad.zip", tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new.*"))


def test_an_archive_that_names_files_elsewhere_is_refused(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as target:
        target.writestr("../evil", "x")
        target.writestr("archive.json", json.dumps({"files": {"../evil": "0"}}))
    with pytest.raises(WorkspaceError, match="outside the workspace"):
        backup.restore(tmp_path / "evil.zip", tmp_path / "inside" / "new")
    assert not (tmp_path / "inside" / "evil").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_archive_is_refused(archive: Path, tmp_path: Path, keep: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(WorkspaceError, match="no complete archive"):
        backup.restore(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(ws: Workspace, archive: Path) -> None:
    with pytest.raises(WorkspaceError, match="is not empty"):
        backup.restore(archive, ws.home)
    with pytest.raises(WorkspaceError, match="exists already"):
        backup.backup(ws.store, archive)


def test_what_is_damaged_is_named(ws: Workspace, project: Project, tmp_path: Path) -> None:
    version = ws.commit(project.id, mlp(), name="one")
    (version.folder / "index.safetensors").write_bytes(b"changed")
    made = backup.backup(ws.store, tmp_path / "all.zip")
    assert made.damaged == (f"versions/{version.id}/index.safetensors changed",)


def test_the_trash_is_not_emptied_meanwhile(ws: Workspace, project: Project) -> None:
    ws.commit(project.id, mlp(), name="one")
    gone = ws.commit(project.id, mlp(), name="two", make_current=False)
    ws.trash_version(gone.id)
    with liveness.holding(ws.home / BACKUP_LOCK):
        with pytest.raises(WorkspaceError, match="backup of this workspace is being written"):
            ws.empty_trash()
        with pytest.raises(WorkspaceError, match="Another backup"):
            backup.backup(ws.store, ws.home / "x.zip")
    assert gone.folder.exists() and ws.empty_trash() > 0 and not gone.folder.exists()


def test_from_the_command_line(
    ws: Workspace, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SURGERY_HOME", str(ws.home))
    assert main(["backup", str(tmp_path / "cli.zip")]) == 0
    assert main(["restore", str(tmp_path / "cli.zip"), "--home", str(tmp_path / "cli")]) == 0
    assert "every checksum verified" in capsys.readouterr().out
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "cli"))
    assert main(["doctor"]) == 0


def test_a_copy_of_the_catalogue_is_kept_each_day(ws: Workspace, project: Project) -> None:
    Workspace(ws.home)
    (copy,) = (ws.home / "backups").glob("catalogue-*.db")
    Workspace(ws.home)
    assert list((ws.home / "backups").glob("catalogue-*.db")) == [copy]
