"""Opening a workspace removes nothing, whatever became of its catalogue, and the doctor brings everything back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from surgery.cli import main
from surgery.data.dataset import Dataset
from surgery.errors import DamagedError, WorkspaceError
from surgery.workspace import Workspace, doctor
from surgery.workspace.identity import folders
from tests.patients import mlp

pytestmark = pytest.mark.hostile


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pico_table: Dataset) -> Path:
    """A workspace with a dataset and three versions, the last of them current."""
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    ws = Workspace(tmp_path / "home", who="ada")
    project = ws.create_project("Boxes")
    ws.add_dataset(project.id, "boxes", lambda folder: _copied(pico_table, folder))
    parent = None
    for number in range(3):
        model = replace(mlp(seed=number), classes=pico_table.classes)
        parent = ws.commit(project.id, model, name=f"number {number}", parent=parent).id
        Workspace(tmp_path / "home").store.engine.dispose()  # keeps a copy of the catalogue, which soon is an older one
    ws.store.engine.dispose()
    return ws.home


def _copied(data: Dataset, folder: Path) -> Dataset:
    shutil.copytree(data.folder, folder, dirs_exist_ok=True)
    return Dataset.open(folder)


def remove(home: Path) -> None:
    for path in home.glob("catalogue.db*"):
        path.unlink()


def empty(home: Path) -> None:
    remove(home)
    (home / "catalogue.db").touch()


def truncate(home: Path) -> None:
    content = (home / "catalogue.db").read_bytes()
    remove(home)
    (home / "catalogue.db").write_bytes(content[: len(content) // 2])


def scribble(home: Path) -> None:
    remove(home)
    (home / "catalogue.db").write_bytes(b"no database at all" * 1000)


def swap(home: Path) -> None:
    other = Workspace(home.parent / "other")
    other.commit(other.create_project("Other").id, mlp(), name="theirs")
    other.store.engine.dispose()
    remove(home)
    shutil.copy(other.home / "catalogue.db", home / "catalogue.db")


LOSSES = [remove, empty, truncate, scribble, swap]


def contents(home: Path) -> dict[str, bytes]:
    """Every file of the versions and datasets."""
    files = [path for kind in ("versions", "datasets") for path in (home / kind).rglob("*") if path.is_file()]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("copies", [True, False], ids=["with a copy", "without"])
def test_a_lost_catalogue_is_refused_and_made_again(home: Path, lose: Callable[[Path], None], copies: bool) -> None:
    before = contents(home)
    if not copies:
        shutil.rmtree(home / "backups")
    lose(home)
    with pytest.raises(WorkspaceError, match="surgery doctor"):
        Workspace(home)
    assert contents(home) == before
    assert any(finding.repair for finding in doctor.examine(home))
    assert contents(home) == before
    assert doctor.repair(home)
    ws = Workspace(home)
    (project,) = ws.projects()
    assert project.name == "Boxes" and project.dataset == ws.datasets(project.id)[0].id
    versions = ws.versions(project.id)
    assert [version.name for version in versions] == ["number 0", "number 1", "number 2"]
    assert [version.number for version in versions] == [1, 2, 3] and versions[2].parent == versions[1].id
    assert project.current == versions[0 if copies else 2].id  # as the copy has it, or the newest
    assert contents(home) == before and not any(finding.repair for finding in doctor.examine(home))
    assert ws.commit(project.id, mlp(), name="goes on").number == 4
    for version in versions:
        ws.verify(version.id)
        ws.model(version.id)


def test_an_older_catalogue_removes_nothing_and_takes_up_the_newer(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "catalogue.db", tmp_path / "older.db")
    ws = Workspace(home)
    (project,) = ws.projects()
    newer = ws.commit(project.id, mlp(seed=7), name="newer")
    ws.store.engine.dispose()
    remove(home)
    shutil.copy(tmp_path / "older.db", home / "catalogue.db")
    assert len(Workspace(home).versions(project.id)) == 3 and newer.folder.exists()
    taken = ws.commit(project.id, mlp(seed=8), name="took the number")
    assert doctor.repair(home)
    ws = Workspace(home)
    assert {version.id: version.number for version in ws.versions(project.id)}[newer.id] == 5
    assert taken.number == 4 and ws.project(project.id).current == taken.id


def test_a_team_catalogue_is_not_forgotten_by_a_shell_without_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGERY_DATABASE", f"sqlite:///{tmp_path / 'team.db'}")
    ws = Workspace(tmp_path / "home")
    version = ws.commit(ws.create_project("Team").id, mlp(), name="theirs")
    monkeypatch.delenv("SURGERY_DATABASE")
    with pytest.raises(WorkspaceError, match=r"empty, but .* 1 folders of work: versions/.*SURGERY_DATABASE"):
        Workspace(tmp_path / "home")
    monkeypatch.setenv("SURGERY_DATABASE", f"sqlite:///{tmp_path / 'team.db'}")
    assert Workspace(tmp_path / "home").verify(version.id) == version.digest
    with pytest.raises(WorkspaceError, match="holds none of them"):
        Workspace(tmp_path / "elsewhere")


@pytest.mark.parametrize("table", ["projects", "lineage", "versions", "datasets"])
def test_rows_that_were_deleted_by_hand_come_back(home: Path, table: str) -> None:
    ws = Workspace(home)
    (project,) = ws.projects()
    kept = [ws.kept(version.id) for version in ws.versions(project.id)]
    with closing(sqlite3.connect(home / "catalogue.db")) as db, db:
        db.execute(f"DELETE FROM {table}")
    if table in ("versions", "datasets"):
        shutil.rmtree(home / "backups")
    assert any(finding.repair for finding in doctor.examine(home))
    doctor.repair(home)
    ws = Workspace(home)
    assert [one.name for one in ws.projects()] == ["Boxes"] and ws.projects()[0].dataset
    assert [ws.kept(version.id) for version in ws.versions(project.id)] == kept
    assert ws.project(project.id).current == ws.versions(project.id)[2].id
    assert not any(finding.repair for finding in doctor.examine(home))


def test_what_is_not_whole_is_set_aside_not_erased(home: Path) -> None:
    ws = Workspace(home)
    version = ws.versions(ws.projects()[0].id)[1]
    ws.store.engine.dispose()
    weights = version.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    shutil.rmtree(home / "backups")
    remove(home)
    done = doctor.repair(home)
    assert any("aside" in sentence and "model.safetensors changed" in sentence for sentence in done)
    (kept,) = (home / "quarantine").glob(f"versions-{version.id}-*")
    assert (kept / "model.safetensors").read_bytes() == content
    assert len(Workspace(home).versions(Workspace(home).projects()[0].id)) == 2


def test_a_missing_folder_is_told_and_its_version_cannot_be_current(home: Path, capsys: pytest.CaptureFixture) -> None:
    ws = Workspace(home)
    project = ws.projects()[0]
    version = ws.versions(project.id)[0]
    version.folder.rename(home.parent / "moved away")
    assert main(["doctor"]) == 1 and f"versions/{version.id}: the folder is missing" in capsys.readouterr().out
    assert main(["doctor", "--repair"]) == 0
    with pytest.raises(DamagedError):
        ws.make_current(project.id, version.id)
    (home.parent / "moved away").rename(version.folder)
    assert main(["doctor", "--repair"]) == 0
    assert "Took" in capsys.readouterr().out and ws.make_current(project.id, version.id).current == version.id


def test_only_this_user_may_look_into_a_new_workspace(tmp_path: Path) -> None:
    assert Workspace(tmp_path / "new").home.stat().st_mode & 0o777 == 0o700
    (tmp_path / "old").mkdir(mode=0o755)
    (tmp_path / "old").chmod(0o755)
    assert Workspace(tmp_path / "old").home.stat().st_mode & 0o007 == 0


def test_folders_of_work_are_told_apart_from_files(home: Path) -> None:
    (home / "datasets" / "README.md").write_text("what lies here")
    assert len(folders(home)) == 4
    assert any(finding.where == "datasets/README.md" for finding in doctor.examine(home))
