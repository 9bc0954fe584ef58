"""Projects: a name, a current version, a dataset in use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from surgery.errors import WorkspaceError
from surgery.workspace.catalogue import datasets, jobs, projects
from surgery.workspace.rows import Project
from surgery.workspace.settings import Settings, TrainedOn
from surgery.workspace.store import Store, clean_name, fetch, find, moment, new_id

_FIELDS = ("id", "name", "current", "dataset", "outcome", "revision", "state")


def project_of(row: Mapping[str, Any]) -> Project:
    """The public form of a catalogue row."""
    about = {name: row[name] for name in _FIELDS}
    return Project(created=moment(row["created"]), settings=Settings.parse(row["settings"]), **about)


def create(store: Store, name: str) -> Project:
    """Add an empty project."""
    id, name = new_id(), clean_name(name, "project")
    with store.write() as db:
        db.execute(insert(projects).values(id=id, name=name, created=time.time()))
        store.record(db, "created project", project=id, subject=id, name=name)
        return project_of(find(db, projects, id, "project"))


def get(store: Store, id: str) -> Project:
    """One project, also from the trash."""
    with store.read() as db:
        return project_of(find(db, projects, id, "project"))


def listing(store: Store, trashed: bool) -> list[Project]:
    """All projects, newest first."""
    wanted = projects.c.state == ("trash" if trashed else "ready")
    with store.read() as db:
        rows = fetch(db, select(projects).where(wanted).order_by(projects.c.created.desc()))
        return [project_of(row) for row in rows]


def rename(store: Store, id: str, name: str) -> Project:
    """Give another name."""
    name = clean_name(name, "project")
    return change(store, id, f"renamed project to {name!r}", name=name)


def use_dataset(store: Store, id: str, dataset: str) -> Project:
    """Make `dataset` the one that the project's pages work on."""
    with store.write() as db:
        row = find(db, datasets, dataset, "dataset")
        if row["project"] != id:
            raise WorkspaceError(
                f"Dataset {row['name']!r} belongs to another project.", "Import it into this project first."
            )
        revise(store, db, id, f"chose dataset {row['name']!r}", subject=dataset, dataset=dataset)
        return project_of(find(db, projects, id, "project"))


def set_tolerance(store: Store, id: str, drop: float | None, class_drop: float | None) -> Project:
    """Set how much a result may lose (pp) and still become current; None leaves a value as it is.

    Raises:
        WorkspaceError: it is not between 0 and 100.
    """
    with store.write() as db:
        settings = Settings.parse(find(db, projects, id, "project")["settings"]).tolerating(drop, class_drop)
        return _settle(store, db, id, settings, f"set the tolerance to {settings.tolerance}")


def set_trained_on(store: Store, id: str, dataset: str, answer: TrainedOn) -> Project:
    """Note whether the project's models were trained on a dataset.

    Raises:
        WorkspaceError: there is no such answer, or the dataset is of another project.
    """
    with store.write() as db:
        row = find(db, datasets, dataset, "dataset")
        if row["project"] != id:
            raise WorkspaceError(f"Dataset {row['name']!r} belongs to another project.", "Name one of this project.")
        settings = Settings.parse(find(db, projects, id, "project")["settings"]).knowing(dataset, answer)
        return _settle(store, db, id, settings, f"noted of dataset {row['name']!r}: {settings.seen(dataset)}")


def _settle(store: Store, db: Connection, id: str, settings: Settings, what: str) -> Project:
    db.execute(update(projects).where(projects.c.id == id).values(settings=settings.to_json()))
    store.record(db, what, project=id, subject=id)
    return project_of(find(db, projects, id, "project"))


def move(store: Store, id: str, state: Literal["ready", "trash"]) -> Project:
    """Put a project into the trash or take it out again.

    Raises:
        WorkspaceError: it has jobs that wait or run.
    """
    with store.write() as db:
        name = find(db, projects, id, "project")["name"]
        waiting = db.scalar(select(func.count()).where(jobs.c.project == id, jobs.c.state.in_(("queued", "running"))))
        if state == "trash" and waiting:
            raise WorkspaceError(
                f"Project {name!r} has {waiting} unfinished job(s).", "Cancel them or wait for their end, then delete."
            )
        db.execute(update(projects).where(projects.c.id == id).values(state=state))
        store.record(db, "trashed project" if state == "trash" else "restored project", project=id, subject=id)
        return project_of(find(db, projects, id, "project"))


def change(store: Store, id: str, what: str, **values: Any) -> Project:
    """Set columns of a project and say so in the events."""
    with store.write() as db:
        find(db, projects, id, "project")
        db.execute(update(projects).where(projects.c.id == id).values(**values))
        store.record(db, what, project=id, subject=id)
        return project_of(find(db, projects, id, "project"))


def revise(store: Store, db: Connection, id: str, what: str, *, subject: str, **values: Any) -> int:
    """Set columns, raise the revision and return it; the event carries the number, for `ConflictError` to cite."""
    revision = int(find(db, projects, id, "project")["revision"]) + 1
    db.execute(update(projects).where(projects.c.id == id).values(revision=revision, **values))
    store.record(db, what, project=id, subject=subject, revision=revision)
    return revision
