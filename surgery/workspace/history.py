"""Which version is current, and the way back: a list of versions and a cursor in it.

Making a version current cuts off what could be redone and appends; undo and redo only move the cursor. So undo and
redo are exact however versions descend from each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from surgery.errors import ConflictError, DamagedError, WorkspaceError
from surgery.workspace.catalogue import events, projects, versions
from surgery.workspace.projects import project_of, revise
from surgery.workspace.rows import Project
from surgery.workspace.store import Store, fetch, find, moment


def make_current(store: Store, project: str, version: str, revision: int | None) -> Project:
    """Make a version of the project the current one.

    Raises:
        ConflictError: the project is no longer at `revision`; tells what happened since.
        WorkspaceError: the version lies in the trash or belongs to another project.
    """
    with store.write() as db:
        row = _project(db, project, revision)
        if row["current"] != version:
            chosen = _usable(db, row, version)
            despite = f" although {'; '.join(chosen['candidate'])}" if chosen["candidate"] else ""
            db.execute(update(versions).where(versions.c.id == version).values(candidate=[]))
            advance(store, db, row, version, f"made version {chosen['number']} {chosen['name']!r} current{despite}")
        return project_of(find(db, projects, project, "project"))


def step(store: Store, project: str, by: int, revision: int | None) -> Project:
    """Move the cursor by −1 (undo) or +1 (redo).

    Raises:
        ConflictError: the project is no longer at `revision`.
        WorkspaceError: there is nothing to undo or redo, or that version lies in the trash.
    """
    word = "undo" if by < 0 else "redo"
    with store.write() as db:
        row = _project(db, project, revision)
        target = _target(row, by)
        if target is None:
            raise WorkspaceError(f"There is nothing to {word} in project {row['name']!r}.", "")
        chosen = _usable(db, row, target)
        what = f"{word}: version {chosen['number']} {chosen['name']!r} is current"
        revise(store, db, project, what, subject=target, current=target, cursor=row["cursor"] + by)
        return project_of(find(db, projects, project, "project"))


def target(store: Store, project: str, by: int) -> str | None:
    """The version that undo (−1) or redo (+1) would make current; None when there is none."""
    with store.read() as db:
        return _target(find(db, projects, project, "project"), by)


def advance(store: Store, db: Connection, project: Mapping[str, Any], version: str, what: str) -> None:
    """Append `version` to the history after the cursor and make it current."""
    history = [*project["history"][: project["cursor"] + 1], version]
    revise(store, db, project["id"], what, subject=version, current=version, history=history, cursor=len(history) - 1)


def without(history: list[str], cursor: int, gone: set[str]) -> tuple[list[str], int]:
    """The history and cursor after the versions in `gone` were deleted for good; neighbours never repeat."""
    kept: list[str] = []
    place = -1
    for position, version in enumerate(history):
        if version not in gone and (not kept or kept[-1] != version):
            kept.append(version)
        if position <= cursor:
            place = len(kept) - 1
    return kept, place


def _target(project: Mapping[str, Any], by: int) -> str | None:
    place = project["cursor"] + by
    return project["history"][place] if 0 <= place < len(project["history"]) else None


def _project(db: Connection, id: str, revision: int | None) -> Mapping[str, Any]:
    row = find(db, projects, id, "project")
    if revision is not None and revision != row["revision"]:
        raise ConflictError(
            f"Project {row['name']!r} was changed meanwhile: {_since(db, id, revision)}.",
            "Look at its present state, then decide again.",
        )
    return row


def _since(db: Connection, project: str, revision: int) -> str:
    rows = fetch(db, select(events).where(events.c.project == project).order_by(events.c.number))
    told = [
        f"{row['who']} {row['what']} at {moment(row['when']):%H:%M:%S} UTC"
        for row in rows
        if row["details"].get("revision", -1) > revision
    ]
    return "; ".join(told[-3:]) or f"revision {revision} is not known"


def _usable(db: Connection, project: Mapping[str, Any], version: str) -> Mapping[str, Any]:
    row = find(db, versions, version, "version")
    if row["project"] != project["id"]:
        raise WorkspaceError(f"Version {row['name']!r} belongs to another project.", "Open that project.")
    if row["state"] == "trash":
        raise WorkspaceError(f"Version {row['number']} {row['name']!r} lies in the trash.", "Restore it first.")
    if row["state"] == "damaged":
        raise DamagedError(
            f"Version {row['number']} {row['name']!r} was found damaged and cannot become current.",
            "Restore its folder from a backup and run `surgery doctor --repair`.",
        )
    return row
