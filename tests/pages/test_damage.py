"""What pages say of work that is damaged, unknown to the catalogue, or done on another machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import update

from surgery.workspace import Job, Project, Version, Workspace, catalogue, integrity, liveness
from tests.pages.conftest import OpenPage
from tests.pages.test_versions import button


@pytest.fixture
def damaged(ws: Workspace, project: Project, versions: list[Version]) -> Version:
    """The current version, after one of its bytes has changed and a job has noticed."""
    version = versions[-1]
    with (version.folder / "index.safetensors").open("ab") as file:
        file.write(b"x")
    integrity._checked.clear()
    with pytest.raises(integrity.DamagedError):
        Workspace(ws.home).model(version.id)
    return version


def test_a_quarantined_version_is_named_on_every_page(open_page: OpenPage, project: Project, damaged: Version) -> None:
    for page in ("home", "versions", "jobs"):
        app = open_page(page, project=project.id, version=damaged.id)
        assert any(f"Version {damaged.number} is quarantined" in error.value for error in app.error)
        assert not app.exception


def test_it_cannot_be_made_current_and_undo_still_works(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version], damaged: Version
) -> None:
    app = open_page("versions", project=project.id, version=damaged.id)
    assert button(app, "Make current").disabled
    assert "index.safetensors changed" in ws.events(project.id)[0].what
    button(app, f"Undo: back to v{versions[-2].number}").click().run()
    assert ws.project(project.id).current == versions[-2].id


def test_folders_without_a_row_are_told_on_home(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    assert not open_page("home", project=project.id).warning
    (ws.home / "versions" / "0123456789").mkdir()
    (warning,) = open_page("home", project=project.id).warning
    assert warning.value.startswith("1 folder is not in the catalogue") and "surgery doctor" in warning.value


def test_a_job_on_another_machine_says_when_it_was_heard_of(
    open_page: OpenPage, ws: Workspace, project: Project, running: Callable[..., Job]
) -> None:
    job = running(project.id)
    with ws.store.write() as db:
        here = update(catalogue.jobs).where(catalogue.jobs.c.id == job.id)
        db.execute(here.values(host="cafe.beef", heartbeat=time.time() - 180))
    assert not liveness.ours("cafe.beef")
    app = open_page("jobs", project=project.id)
    assert any("another machine, which last reported 3 min" in caption.value for caption in app.caption)


def test_a_quarantined_dataset_is_named(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    with ws.store.read() as db:
        row = next(iter(db.execute(catalogue.datasets.select()).mappings()))
    integrity.quarantine(ws.store, "datasets", row, ["x.npy changed"])
    app = open_page("home", project=project.id)
    assert any("is quarantined" in error.value for error in app.error)
