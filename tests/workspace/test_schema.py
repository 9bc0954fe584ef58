"""Workspaces of earlier versions are opened, brought up to date, and lose nothing; those of later ones are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from sqlalchemy import update

from surgery.errors import WorkspaceError
from surgery.workspace import Workspace, doctor, queue, schema
from surgery.workspace.catalogue import meta
from surgery.workspace.settings import Settings

RELEASED = sorted((Path(__file__).parent / "released").glob("*.zip"))


@pytest.fixture(params=RELEASED, ids=lambda path: path.stem)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace that a released version left: two versions and one in the trash, a dataset, a fleet, jobs."""
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path / "home")
    return tmp_path / "home"


def test_it_opens_with_all_that_was_there(home: Path) -> None:
    ws = Workspace(home, who="ada")
    (project,) = ws.projects()
    first, second = ws.versions(project.id)
    assert (project.name, project.current, project.outcome) == ("Boxes", first.id, "smaller")
    assert [version.name for version in ws.versions(project.id, trashed=True)] == ["Other"]
    assert ws.verify(first.id) == first.digest and ws.model(second.id).index is not None
    assert (ws.receipt(second.id) or {})["title"] and ws.plan(first.id) is None
    assert ws.kept(second.id) == [i for i in range(first.neurons) if i not in {1, 9}]
    assert ws.redo(project.id).current == second.id
    (data,) = ws.datasets(project.id)
    assert len(ws.dataset(data.id).ids("val")) and len(ws.must_keep(data.id)[0].ids) == 3
    assert [selection.name for selection in ws.selections(project.id)] == ["loud"]
    assert ws.fleet_document(ws.fleets(project.id)[0].id, "plan")["operation"] == "prune"
    states = {job.title: job.state for job in queue.listing(ws.store, project.id)}
    assert states == {"Cut two": "done", "Killed": "running"}
    assert project.settings == Settings() and second.candidate == ()
    assert ws.commit(project.id, ws.model(second.id), name="next", parent=second.id).number == 4


def test_what_had_no_checksums_gets_them_at_first_opening_and_keeps_them(home: Path) -> None:
    ws = Workspace(home)
    first = ws.versions(ws.projects()[0].id)[0]
    assert not (first.folder / "checksums.json").exists()
    ws.model(first.id)
    assert (first.folder / "checksums.json").exists()
    (first.folder / "index.safetensors").write_bytes(b"changed")
    with pytest.raises(WorkspaceError, match=r"index\.safetensors changed"):
        ws.verify(first.id)


def test_without_its_catalogue_it_is_taken_up_from_the_folders(home: Path) -> None:
    (home / "catalogue.db").unlink()
    with pytest.raises(WorkspaceError, match="surgery doctor"):
        Workspace(home)
    doctor.repair(home)
    ws = Workspace(home)
    (project,) = ws.projects()
    assert len(ws.versions(project.id)) == 3 and len(ws.fleets(project.id)) == 1
    (data,) = ws.datasets(project.id)
    assert data.classes == ("long", "wide", "high") and project.dataset == data.id
    assert ws.receipt(ws.versions(project.id)[1].id) and ws.model(str(project.current)).index is not None


def test_opening_twice_at_once_migrates_once(home: Path) -> None:
    first, second = Workspace(home), Workspace(home)
    with first.store.read() as db:
        assert schema.value(db, "schema") == str(schema.LATEST)
    assert first.projects() == second.projects()


def test_a_newer_catalogue_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    ws = Workspace(tmp_path / "home")
    with ws.store.write() as db:
        db.execute(update(meta).where(meta.c.key == "schema").values(value="99"))
    with pytest.raises(WorkspaceError, match=r"newer version of Model Surgery \(schema 99; .*\)\. Install"):
        Workspace(tmp_path / "home")
