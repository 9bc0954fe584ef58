"""Commits that go wrong: the disk is full, the process dies at any stage, others commit and open meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError

from surgery.errors import DiskFullError, WorkspaceError
from surgery.network import store as models
from surgery.workspace import Project, Workspace, files, liveness
from tests.hostile import committer
from tests.patients import mlp

pytestmark = pytest.mark.hostile


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    return Workspace(tmp_path / "home")


@pytest.fixture
def project(ws: Workspace) -> Project:
    project = ws.create_project("Digits")
    ws.commit(project.id, mlp(), name="Original")
    return ws.project(project.id)


def unharmed(ws: Workspace, project: Project) -> None:
    """Only the first version is there, whole; nothing else lies around; the workspace goes on."""
    assert committer.corrupt(ws.store) == []
    assert [version.name for version in ws.versions(project.id)] == ["Original"]
    assert ws.project(project.id) == project
    assert ws.commit(project.id, mlp(), name="next").number == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_while_the_model_is_written(ws, project, monkeypatch, error):
    def save(model, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(models, "save", save)
        with pytest.raises(DiskFullError, match=r"version 'cut' could not be written. Nothing was changed. Free some"):
            ws.commit(project.id, mlp(), name="cut")
    unharmed(ws, project)


def test_a_full_disk_when_the_files_are_forced_to_it(ws, project, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskFullError, match="version 'cut'"):
            ws.commit(project.id, mlp(), name="cut")
    unharmed(ws, project)


def test_a_full_disk_when_the_rename_is_made_durable(ws, project, monkeypatch):
    def publish(staged, target):
        staged.rename(target)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "publish", publish)
        with pytest.raises(DiskFullError, match=r"disk is full: the catalogue.*Nothing was changed"):
            ws.commit(project.id, mlp(), name="cut")
    unharmed(ws, project)


def test_a_catalogue_that_cannot_grow(ws, project, monkeypatch):
    def record(*_, **__):
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr("surgery.workspace.store.Store.record", record)
        with pytest.raises(DiskFullError, match="Nothing was changed"):
            ws.commit(project.id, mlp(), name="cut")
    unharmed(ws, project)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_what_may_not_be_written_is_said(ws, project, monkeypatch, number):
    def save(model, folder):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(models, "save", save)
        with pytest.raises(WorkspaceError, match=rf"version 'cut' could not be written: {os.strerror(number)}. Give"):
            ws.commit(project.id, mlp(), name="cut")
    unharmed(ws, project)


def test_other_errors_keep_their_name(ws, project, monkeypatch):
    def save(model, folder):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(models, "save", save)
        with pytest.raises(OSError, match="Input/output error"):
            ws.commit(project.id, mlp(), name="cut")
    unharmed(ws, project)


def test_files_that_may_not_grow_further(ws, project):
    child = committer.start(committer.with_small_files, ws.home, project.id)
    child.join(60)
    assert child.exitcode == 0
    unharmed(ws, project)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full(small_disk):
    ws = Workspace(small_disk / "home")
    project = ws.create_project("Small")
    ws.commit(project.id, mlp(), name="Original")
    project = ws.project(project.id)
    with pytest.raises(DiskFullError, match="version 'too large' could not be written"):
        ws.commit(project.id, mlp((4, 1000, 1000, 3)), name="too large")
    unharmed(ws, project)


@pytest.mark.parametrize("stage", committer.STAGES)
def test_a_process_killed_at_every_stage(ws, project, stage):
    child = committer.start(committer.killed_at, ws.home, project.id, stage)
    child.join(60)
    assert child.exitcode == -9
    if stage == "after the commit":
        assert committer.corrupt(ws.store) == []
        assert [version.name for version in ws.versions(project.id)] == ["Original", "doomed"]
    else:
        unharmed(ws, project)


def test_sweeping_spares_what_others_are_writing(ws, project):
    with files.staging(ws.home, "abc123") as staged:
        (staged / "half").write_text("a dataset that is being imported")
        Workspace(ws.home)
        assert (staged / "half").exists()
    assert not staged.exists()


def test_what_the_catalogue_does_not_know_is_left_alone(ws, project):
    names = ("staging/abc.999999999.1", "staging/whatever", "versions/beef", "datasets/beef", "jobs/beef", "trash/x")
    for name in names:
        (ws.home / name).mkdir()
        (ws.home / name / "file").write_text("somebody's work")
    (ws.home / "datasets" / "README.md").write_text("what lies here")
    Workspace(ws.home).empty_trash()
    assert all((ws.home / name / "file").read_text() == "somebody's work" for name in names)
    assert (ws.home / "datasets" / "README.md").read_text() == "what lies here"


def test_two_processes_commit_and_sweep_at_once(ws, project):
    children = [committer.start(committer.commit_many, ws.home, project.id, 8) for _ in range(2)]
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    assert committer.corrupt(ws.store) == []
    assert [version.number for version in ws.versions(project.id)] == list(range(1, 18))


def test_a_lock_whose_owner_had_no_time_for_its_folder_goes(ws, project):
    left = ws.home / "staging" / f"{'0' * 10}.{liveness.here()}.lock"
    left.touch()
    with files.staging(ws.home, "abc123") as staged:
        lock = staged.parent.with_name(f"{staged.parent.name}.lock")
        Workspace(ws.home)
        assert not left.exists() and lock.exists()
