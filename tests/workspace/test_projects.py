"""Projects, datasets, events, trash: what a page asks the workspace for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from surgery.data.dataset import Dataset
from surgery.errors import NotFoundError, WorkspaceError
from surgery.workspace import Project, Workspace
from tests.patients import mlp


def copy_of(data: Dataset):
    def make(folder: Path) -> Dataset:
        shutil.copytree(data.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    return make


def test_projects_are_listed_newest_first_and_survive_reopening(ws: Workspace):
    first, second = ws.create_project("  First "), ws.create_project("Second")
    again = Workspace(ws.home)
    assert [p.name for p in again.projects()] == ["Second", "First"]
    assert again.project(first.id) == first
    assert (second.current, second.dataset, second.outcome, second.revision) == (None, None, "", 0)


@pytest.mark.parametrize("name", ["", "   ", "x" * 121, "two\nlines"])
def test_a_bad_name_is_refused(ws: Workspace, name: str):
    with pytest.raises(WorkspaceError, match="1 to 120 printable characters"):
        ws.create_project(name)


def test_unknown_ids_are_named(ws: Workspace):
    with pytest.raises(NotFoundError, match="no project 'beef'"):
        ws.project("beef")
    with pytest.raises(NotFoundError, match="no version 'cafe'"):
        ws.version("cafe")


def test_trash_and_restore(ws: Workspace, project: Project):
    ws.trash_project(project.id)
    assert ws.projects() == [] and [p.id for p in ws.projects(trashed=True)] == [project.id]
    ws.restore_project(project.id)
    assert [p.id for p in ws.projects()] == [project.id]


def test_emptying_the_trash_deletes_a_trashed_project_with_its_files(
    ws: Workspace, project: Project, pico_table: Dataset
):
    kept = ws.create_project("Kept")
    stays = ws.commit(kept.id, mlp(), name="stays")
    version = ws.commit(project.id, mlp(), name="goes")
    data = ws.add_dataset(project.id, "goes too", copy_of(pico_table))
    ws.trash_project(project.id)
    assert ws.empty_trash() > 0
    assert not version.folder.exists() and not data.folder.exists()
    with pytest.raises(NotFoundError, match="no project"):
        ws.project(project.id)
    assert ws.verify(stays.id) == stays.digest
    assert any(event.project == project.id for event in ws.events()), "the audit log stays"


def test_the_first_dataset_is_put_to_use_and_later_ones_are_not(ws: Workspace, project: Project, pico_table: Dataset):
    first = ws.add_dataset(project.id, "first", copy_of(pico_table))
    second = ws.add_dataset(project.id, "second", copy_of(pico_table))
    assert ws.project(project.id).dataset == first.id
    assert first.samples == len(pico_table) and first.classes == pico_table.classes
    assert ws.dataset(first.id).digest == pico_table.digest == ws.dataset_row(first.id).digest
    assert [row.id for row in ws.datasets(project.id)] == [first.id, second.id]
    assert ws.use_dataset(project.id, second.id).dataset == second.id


def test_a_dataset_of_another_project_is_not_used(ws: Workspace, project: Project, pico_table: Dataset):
    foreign = ws.add_dataset(ws.create_project("Other").id, "foreign", copy_of(pico_table))
    with pytest.raises(WorkspaceError, match="'foreign' belongs to another project"):
        ws.use_dataset(project.id, foreign.id)


def test_an_import_that_fails_leaves_nothing(ws: Workspace, project: Project):
    def fail(folder: Path) -> Dataset:
        (folder / "x.npy").write_bytes(b"half")
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        ws.add_dataset(project.id, "broken", fail)
    assert ws.datasets(project.id) == []
    assert not list((ws.home / "staging").iterdir()) and not list((ws.home / "datasets").iterdir())


def test_events_say_who_did_what_to_which_bytes(ws: Workspace, project: Project):
    version = ws.acting_as("grace").commit(project.id, mlp(), name="Original")
    ws.record("exported", project=project.id, subject=version.id, digest=version.digest)
    exported, current, committed = ws.events(project.id, limit=3)
    assert (exported.who, exported.what, exported.digest) == ("ada", "exported", version.digest)
    assert current.who == "grace" and "made version 1 'Original' current" in current.what
    assert (committed.who, committed.subject, committed.digest) == ("grace", version.id, version.digest)


def test_disk_use_counts_versions_and_datasets(ws: Workspace, project: Project, pico_table: Dataset):
    assert ws.disk_use(project.id) == 0
    version = ws.commit(project.id, mlp(), name="Original")
    data = ws.add_dataset(project.id, "boxes", copy_of(pico_table))
    files = [path for folder in (version.folder, data.folder) for path in folder.rglob("*") if path.is_file()]
    assert ws.disk_use(project.id) == sum(path.stat().st_size for path in files)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match=r"cannot be used: Not a directory.*SURGERY_HOME"):
        Workspace(tmp_path / "file" / "home")
