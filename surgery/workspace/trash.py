"""Deleting for good, and sweeping what killed processes left behind.

Rows go first; a folder without a row is an orphan, and orphans are moved to `trash/` inside an exclusive
transaction (so no commit can be under way) and removed after it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select, update

from surgery.workspace import files, scans
from surgery.workspace.catalogue import datasets, fleets, jobs, lineage, must_keep, projects, selections, versions
from surgery.workspace.history import without
from surgery.workspace.store import Store, fetch, new_id

_OWNED = {"versions": versions, "datasets": datasets, "fleets": fleets, "jobs": jobs}


def empty(store: Store, project: str | None = None) -> int:
    """Delete what lies in the trash (of one project, or everywhere); the bytes freed."""
    with store.write() as db:
        gone = _trashed_versions(db, project)
        for row in gone:
            db.execute(delete(versions).where(versions.c.id == row["id"]))
            db.execute(delete(selections).where(selections.c.version == row["id"]))
        trashed = fleets.c.state == "trash"
        db.execute(delete(fleets).where(trashed if project is None else trashed & (fleets.c.project == project)))
        for id in _trashed_projects(db, project):
            _forget(db, id)
        _shorten_histories(db, {row["id"] for row in gone})
        store.record(db, f"emptied the trash: {len(gone)} versions", project=project)
        unused = _unused_digests(db, gone)
    scanned = [folder for digest in unused for folder in scans.of_model(store, digest)]
    return _remove(scanned) + sweep(store)


def sweep(store: Store) -> int:
    """Remove staging folders of dead processes and artifact folders without a row; the bytes freed."""
    with store.write() as db:
        for name, table in _OWNED.items():
            known = set(db.scalars(select(table.c.id)))
            for folder in (store.home / name).iterdir():
                if folder.name not in known:
                    folder.rename(store.home / "trash" / new_id())
    left = [folder for folder in (store.home / "staging").iterdir() if files.abandoned(folder)]
    return _remove([*left, *(store.home / "trash").iterdir()])


def _remove(folders: Iterable[Path]) -> int:
    freed = 0
    for folder in folders:
        freed += files.size(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return freed


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
    for table in (versions, lineage, datasets, selections, must_keep, fleets, jobs):
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
