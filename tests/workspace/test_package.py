"""One project as a package, into any workspace, as often as one likes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from surgery.data.dataset import Dataset
from surgery.errors import DataError, WorkspaceError
from surgery.workspace import Project, Workspace, checksums, liveness, queue
from surgery.workspace.package import Package, pack, unpack
from tests.conftest import boxed
from tests.patients import mlp

PARAMS = {"share": 0.5}


def nobody() -> queue.Worker:
    """A worker that was never started."""
    return queue.Worker(1, 0.0, liveness.here(), None)


@pytest.fixture
def package(ws: Workspace, project: Project) -> Package:
    """Two versions, the second current and made by a plan, a dataset, a scan, a selection, a done and a failed job."""
    data = ws.add_dataset(project.id, "Boxes", boxed)
    first = ws.commit(project.id, mlp(), name="one")
    plan = {"operation": "prune", "inputs": [first.id], "dataset": data.id}
    ws.commit(project.id, mlp(), name="two", parent=first.id, plan=plan)
    ws.set_tolerance(project.id, drop=3.0, class_drop=20.0)
    ws.set_trained_on(project.id, data.id, "train")
    ws.add_scan(first.id, data.id, PARAMS, lambda folder: (folder / "scan.json").write_text('{"seen": 90}'))
    ws.save_selection(project.id, first.id, "some", [1, 2])
    ws.save_must_keep(data.id, {int(id): "pinned" for id in ws.dataset(data.id).ids("val")[:2]})
    for task in ({"kind": "scan", "version": first.id}, {"kind": "never done"}):
        job = queue.add(ws.store, task, project=project.id, title=task["kind"], lane="short", device="cpu", limit=60)
        if "version" in task:
            with ws.store.write() as db:
                queue.claim(ws.store, db, queue.waiting(db)[0], "cpu", nobody)
                queue.finish(ws.store, db, job.id, {"folder": str(ws.home / "scans" / "x")})
    return pack(ws.store, project.id)


def test_it_is_the_same_project_under_new_ids(
    ws: Workspace, project: Project, package: Package, tmp_path: Path
) -> None:
    other = Workspace(tmp_path / "other", who="bob")
    made = other.create_project("Copy")
    unpack(other.store, package, made.id)
    assert other.project(made.id).name == "Copy"
    assert (other.project(made.id).settings.drop, other.project(made.id).settings.class_drop) == (3.0, 20.0)
    (old, newer), (first, second) = ws.versions(project.id), other.versions(made.id)
    assert [(one.name, one.number, one.digest) for one in (first, second)] == [
        (one.name, one.number, one.digest) for one in (old, newer)
    ]
    assert not {first.id, second.id} & {old.id, newer.id}
    assert (second.parent, other.project(made.id).current) == (first.id, second.id)
    (data,) = other.datasets(made.id)
    assert other.plan(second.id) == {"operation": "prune", "inputs": [first.id], "dataset": data.id}
    assert other.project(made.id).settings.trained_on == {data.id: "train"}
    assert other.dataset(data.id).digest == data.digest
    assert other.kept(second.id) == ws.kept(newer.id)
    assert other.has_scan(first.id, data.id, PARAMS)
    (chosen,) = other.selections(made.id)
    assert (chosen.version, chosen.ids) == (first.id, (1, 2))
    assert other.must_keep(data.id)[0].cases == ws.must_keep(ws.datasets(project.id)[0].id)[0].cases
    (job,) = queue.listing(other.store, made.id)
    assert (job.state, job.task["version"]) == ("done", first.id)
    assert job.result == {"folder": str(other.home / "scans" / "x")}
    assert other.undo(made.id).current == first.id
    assert [event.what for event in other.events(made.id)][1] == "unpacked 'Digits'"


def test_every_file_is_sealed(ws: Workspace, package: Package) -> None:
    made = ws.create_project("Copy")
    unpack(ws.store, package, made.id)
    for version in ws.versions(made.id):
        assert ws.verify(version.id) == version.digest
        told = json.loads((version.folder / "record.json").read_bytes())["project"]
        assert (told["id"], told["name"], told["settings"]["drop"]) == (made.id, "Copy", 3.0)
    assert all(checksums.damage(data.folder, None) == [] for data in ws.datasets(made.id))
    assert ws.unknown_folders() == []
    assert list((ws.home / "staging").iterdir()) == []


def test_data_that_came_without_are_made_where_it_goes(ws: Workspace, project: Project) -> None:
    data = ws.add_dataset(project.id, "Boxes", boxed)
    small = pack(ws.store, project.id, without=[data.id])
    assert small.files == {}
    made = ws.create_project("Copy")
    unpack(ws.store, small, made.id, {data.id: boxed})
    (again,) = ws.datasets(made.id)
    assert again.digest == data.digest
    assert ws.project(made.id).dataset == again.id


def test_what_fails_leaves_nothing(ws: Workspace, project: Project) -> None:
    data = ws.add_dataset(project.id, "Boxes", boxed)
    ws.commit(project.id, mlp(), name="one")
    small = pack(ws.store, project.id, without=[data.id])
    made = ws.create_project("Copy")
    with pytest.raises(DataError, match="holds no readable dataset"):
        unpack(ws.store, small, made.id, {data.id: lambda folder: None})
    assert ws.versions(made.id) == ws.datasets(made.id) == []
    assert ws.unknown_folders() == []
    assert list((ws.home / "staging").iterdir()) == []


def test_a_project_that_is_in_use_takes_none(ws: Workspace, project: Project, package: Package) -> None:
    with pytest.raises(
        WorkspaceError, match=r"'Digits' has versions and datasets already\. Unpack into a new project\."
    ):
        unpack(ws.store, package, project.id)
    assert len(ws.versions(project.id)) == 2


def test_a_package_of_an_older_catalogue_can_be_unpacked(ws: Workspace, package: Package) -> None:
    rows = {name: [{**row, "gone since": 1} for row in of] for name, of in package.rows.items()}
    made = ws.create_project("Copy")
    unpack(ws.store, Package(rows, package.files), made.id)
    assert len(ws.versions(made.id)) == 2


def test_a_dataset_opens_from_its_package(package: Package, tmp_path: Path) -> None:
    for name, content in package.files.items():
        if name.startswith("datasets/"):
            (tmp_path / name.rpartition("/")[2]).write_bytes(content)
    assert len(Dataset.open(tmp_path)) == 90
