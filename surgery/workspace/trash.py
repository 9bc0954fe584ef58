"""Deleting for good, and finishing what killed processes began.

A folder is removed only when the catalogue recorded that it was deleted (a tombstone), or when it is the staging folder
of a process of this machine that is gone. Whatever else lies in the workspace stays: a folder that the catalogue does
not know may be the only copy of somebody's work, and `surgery doctor` tells of it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from surgery.errors import WorkspaceError
from surgery.workspace import files, liveness, scans
from surgery.workspace.catalogue import (
    fleets,
    jobs,
    lineage,
    must_keep,
    projects,
    selections,
    tombstones,
    versions,
)
from surgery.workspace.history import without
from surgery.workspace.identity import KINDS
from surgery.workspace.store import Store, fetch

BACKUP_LOCK = "backup.lock"  # held in the workspace's folder while an archive of it is written


def empty(store: Store, project: str | None = None) -> int:
    """Delete what lies in the trash (of one project, or everywhere); the bytes freed.

    Raises:
        WorkspaceError: a backup is being written.
    """
    _refuse_during_backup(store.home)
    with store.write() as db:
        gone = _trashed_versions(db, project)
        for row in gone:
            _bury(db, "versions", versions, versions.c.id == row["id"])
            db.execute(delete(selections).where(selections.c.version == row["id"]))
        trashed = fleets.c.state == "trash"
        _bury(db, "fleets", fleets, trashed if project is None else trashed & (fleets.c.project == project))
        for id in _trashed_projects(db, project):
            _forget(db, id)
        _shorten_histories(db, {row["id"] for row in gone})
        unused = _unused_digests(db, gone)
        _mark(db, "scans", [folder.name for digest in unused for folder in scans.of_model(store, digest)])
        store.record(db, f"emptied the trash: {len(gone)} versions", project=project)
    return sweep(store)


def discard_empty(store: Store, project: str) -> bool:
    """Delete a project that holds nothing and waits for nothing, ended jobs aside; whether it was one."""
    holds = [table.c.id for table in KINDS.values()]
    with store.write() as db:
        full = any(db.scalar(select(id).where(id.table.c.project == project).limit(1)) for id in holds)
        waiting = (jobs.c.project == project) & (jobs.c.state.in_(("queued", "running")) | jobs.c.slot.is_not(None))
        if full or db.scalar(select(jobs.c.id).where(waiting).limit(1)):
            return False
        _forget(db, project)
        store.record(db, "removed an empty project", project=project, subject=project)
    return True


def sweep(store: Store) -> int:
    """Remove what the catalogue recorded as deleted, and staging folders of this machine's dead; the bytes freed."""
    freed = 0
    for id, folder in files.abandoned(store.home):
        _set_aside(store, id)
        freed += files.size(folder)
        files.remove_staging(folder)
    files.forget_locks(store.home)
    with store.read() as db:
        dead = fetch(db, select(tombstones))
    if dead and not liveness.held(store.home / BACKUP_LOCK):
        for row in dead:
            freed += _remove(store.home / row["kind"] / row["name"])
        with store.write() as db:
            for row in dead:
                db.execute(delete(tombstones).where(tombstones.c.kind == row["kind"], tombstones.c.name == row["name"]))
    return freed


def _set_aside(store: Store, id: str) -> None:
    """Move a folder that its writer put in place without recording it to `quarantine/`: nobody was told of it."""
    for kind, table in KINDS.items():
        folder = store.home / kind / id
        with store.write() as db:
            if folder.exists() and not fetch(db, select(table.c.id).where(table.c.id == id)):
                (store.home / "quarantine").mkdir(exist_ok=True)
                folder.rename(store.home / "quarantine" / f"{kind}-{id}")


def _remove(folder: Path) -> int:
    freed = files.size(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return freed


def _refuse_during_backup(home: Path) -> None:
    if liveness.held(home / BACKUP_LOCK):
        raise WorkspaceError("A backup of this workspace is being written.", "Empty the trash when it is done.")


def _bury(db: Connection, kind: str, table: Any, where: Any) -> None:
    """Delete rows, and record that their folders may go."""
    _mark(db, kind, db.scalars(select(table.c.id).where(where)))
    db.execute(delete(table).where(where))


def _mark(db: Connection, kind: str, names: Iterable[str]) -> None:
    for name in list(names):
        db.execute(insert(tombstones).values(kind=kind, name=name, when=time.time()))


def _trashed_projects(db: Connection, project: str | None) -> list[str]:
    wanted = projects.c.state == "trash"
    if project is not None:
        wanted &= projects.c.id == project
    return list(db.scalars(select(projects.c.id).where(wanted)))


def _trashed_versions(db: Connection, project: str | None) -> list[dict[str, Any]]:
    """The versions that go: those in the trash, and all of trashed projects."""
    wanted = (versions.c.state == "trash") | versions.c.project.in_(_trashed_projects(db, project))
    if project is not None:
        wanted &= versions.c.project == project
    return fetch(db, select(versions).where(wanted))


def _forget(db: Connection, project: str) -> None:
    """Delete every row of a project; its events stay: they are the audit log."""
    for kind, table in (*KINDS.items(), ("jobs", jobs)):
        _bury(db, kind, table, table.c.project == project)
    for table in (lineage, selections, must_keep):
        db.execute(delete(table).where(table.c.project == project))
    db.execute(delete(projects).where(projects.c.id == project))


def _shorten_histories(db: Connection, gone: set[str]) -> None:
    for row in fetch(db, select(projects)):
        history, cursor = without(row["history"], row["cursor"], gone)
        if history != row["history"]:
            db.execute(update(projects).where(projects.c.id == row["id"]).values(history=history, cursor=cursor))


def _unused_digests(db: Connection, gone: Iterable[Mapping[str, Any]]) -> set[str]:
    used = set(db.scalars(select(versions.c.digest)))
    return {row["digest"] for row in gone} - used
