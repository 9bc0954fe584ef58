"""Examine a workspace, and put it right when asked; nothing is ever erased.

    for finding in doctor.examine(home): print(finding.what)
    done = doctor.repair(home)

It works where the workspace itself refuses to open: the catalogue is lost, damaged, of another workspace, or older than
the folders. What cannot be used is moved to `quarantine/`; what the catalogue does not know is taken up again from the
folders' own records.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from surgery.errors import SurgeryError, WorkspaceError
from surgery.workspace import backup, catalogue, checksums, files, identity, integrity, rebuild, schema
from surgery.workspace.identity import KINDS
from surgery.workspace.store import FOLDERS, Store, catalogue_named, database, fetch, new_id, user

QUARANTINE = "quarantine"
_OURS = {*FOLDERS, QUARANTINE, backup.COPIES, "probes", identity.FILE, "devices.json", "app.log", "setup.log"}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: where, what it is, and what `repair` does about it ("" = nothing)."""

    where: str
    what: str
    repair: str = ""


def examine(home: Path) -> list[Finding]:
    """Everything about a workspace that is not as it should be; every file is checked.

    Changes nothing, except that a catalogue of an older version is brought up to date.

    Raises:
        WorkspaceError: the folder is not a workspace, or its database cannot be reached.
    """
    _require(home)
    if lost := _lost(home):
        return [lost, *_unknown(home, {}), *_strangers(home)]
    store = _open(home)
    try:
        rows = _rows(store)
        missing = [Finding(what, "the catalogue has lost it", "it is put back") for what in rebuild.lost(store)]
        return [*_identity(store, rows), *missing, *_damaged(store, rows), *_unknown(home, rows), *_strangers(home)]
    finally:
        store.engine.dispose()


def repair(home: Path) -> list[str]:
    """Put right what can be put right, in sentences.

    A lost or foreign catalogue file is replaced by its last copy, or by an empty one, and filled from the folders.

    Raises:
        WorkspaceError: the folder is not a workspace, or its catalogue is in a database that cannot be used.
    """
    _require(home)
    done = _replace_catalogue(home)
    store = _open(home)
    try:
        done += _agree(store)
        done += rebuild.put_back(store)
        rows = _rows(store)
        for kind, row in rows.values():
            done += _settle(store, kind, row)
        return done + rebuild.take_up(store, [name for name in identity.folders(home) if name not in rows], _aside)
    finally:
        store.engine.dispose()


def _require(home: Path) -> None:
    if not any((home / kind).is_dir() for kind in KINDS):
        raise WorkspaceError(f"{home} is not a workspace.", "Set SURGERY_HOME to the folder that you mean.")


def _open(home: Path) -> Store:
    """The store without the checks that a workspace makes when it opens."""
    for name in FOLDERS:
        (home / name).mkdir(exist_ok=True)
    store = Store(home, catalogue.connect(database(home)), user())
    with catalogue_named(store.engine):
        schema.prepare(store.engine)
    return store


def _rows(store: Store) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """ "versions/ID" -> (kind, row) of everything that has a folder."""
    with store.read() as db:
        return {f"{kind}/{row['id']}": (kind, row) for kind, table in KINDS.items() for row in fetch(db, select(table))}


def _lost(home: Path) -> Finding | None:
    """Whether the catalogue, where it is a file, is missing or damaged, or empty though there are folders of work."""
    if os.environ.get("SURGERY_DATABASE"):
        return None
    path = home / catalogue.FILE
    repair = "it is set aside and made again from its last copy and from the folders"
    if not path.exists() or path.stat().st_size == 0:
        return Finding(catalogue.FILE, "the catalogue is missing or empty", repair)
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
            rows = sum(db.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0] for table in KINDS.values())
    except sqlite3.DatabaseError as error:
        said, rows = [str(error)], 0
    if said != ["ok"]:
        return Finding(catalogue.FILE, f"the catalogue is damaged: {'; '.join(said)}", repair)
    fresh = not rows and identity.folders(home)
    return Finding(catalogue.FILE, "the catalogue is empty, the folders are not", repair) if fresh else None


def _identity(store: Store, rows: Mapping[str, Any]) -> Iterator[Finding]:
    """Folder and catalogue that do not belong together."""
    with store.read() as db:
        theirs = schema.value(db, "workspace")
    mine, there = _id_of(store.home), set(identity.folders(store.home))
    if mine and theirs and mine != theirs:
        yield Finding(catalogue.FILE, "the catalogue belongs to another workspace", "it is set aside and made again")
    elif there and not rows:  # in a database; a file is told by `_lost`
        yield Finding(
            "SURGERY_DATABASE", "the catalogue is empty, the folders are not", "it is filled from the folders"
        )
    elif not mine:
        yield Finding(identity.FILE, "the folder does not carry the workspace's id", "it gets the catalogue's")


def _damaged(store: Store, rows: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Iterator[Finding]:
    """Rows whose folders are missing or not as they were committed, and those that are whole again."""
    for name, (kind, row) in rows.items():
        found = _differences(store, kind, row)
        if found:
            yield Finding(name, "; ".join(found[:5]), "" if row["state"] == "damaged" else "it is quarantined")
        elif row["state"] == "damaged":
            yield Finding(name, "it was found damaged, and is as it was committed again", "it is taken back")


def _differences(store: Store, kind: str, row: Mapping[str, Any]) -> list[str]:
    folder = store.home / kind / row["id"]
    if not folder.is_dir():
        return ["the folder is missing"]
    return checksums.damage(folder, row["checksum"]) if row["checksum"] else []


def _unknown(home: Path, rows: Mapping[str, Any]) -> Iterator[Finding]:
    """Folders of work that the catalogue does not know."""
    for name in identity.folders(home):
        if name not in rows:
            yield Finding(name, "the catalogue does not know it", "it is taken up again, or set aside if not whole")


def _strangers(home: Path) -> Iterator[Finding]:
    """What is not of this product, and what was left behind."""
    for path in sorted(home.iterdir()):
        if path.name not in _OURS and not path.name.startswith((catalogue.FILE, ".")):
            yield Finding(path.name, "it is not of this workspace and is left alone")
    ours = set(identity.folders(home))
    for kind in KINDS:
        for path in sorted((home / kind).iterdir() if (home / kind).is_dir() else ()):
            if f"{kind}/{path.name}" not in ours:
                yield Finding(f"{kind}/{path.name}", "it is not of this workspace and is left alone")
    for name in ("staging", "trash", QUARANTINE):
        left = sorted((home / name).iterdir()) if (home / name).is_dir() else []
        if left:
            size = sum(files.size(path) if path.is_dir() else path.stat().st_size for path in left)
            yield Finding(name, f"{len(left)} entries of {size / 1e6:,.1f} MB were set aside or left by others")


def _replace_catalogue(home: Path) -> list[str]:
    """Set a lost, damaged or foreign catalogue file aside, and put its last good copy in place."""
    foreign = not os.environ.get("SURGERY_DATABASE") and not _lost(home) and _is_foreign(home)
    if not foreign and _lost(home) is None:
        return []
    done = []
    for path in sorted(home.glob(f"{catalogue.FILE}*")):
        moved = _aside(home, path, "catalogue")
        done.append(f"Set {path.name} aside as {moved}.")
    if copy := _last_copy(home):
        (home / catalogue.FILE).write_bytes(copy.read_bytes())
        return [*done, f"Put the copy {copy.name} of the catalogue in its place."]
    return [*done, "Made an empty catalogue."]


def _is_foreign(home: Path) -> bool:
    store = _open(home)
    try:
        with store.read() as db:
            theirs = schema.value(db, "workspace")
    finally:
        store.engine.dispose()
    mine = _id_of(home)
    return bool(mine and theirs and mine != theirs)


def _last_copy(home: Path) -> Path | None:
    """The newest copy of the catalogue that is whole and of this workspace."""
    for path in sorted((home / backup.COPIES).glob("catalogue-*.db"), reverse=True):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                whole = db.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
                id = db.execute("SELECT value FROM meta WHERE key = 'workspace'").fetchone()
        except sqlite3.DatabaseError:
            continue
        if whole and id and _id_of(home) in (None, id[0]):
            return path
    return None


def _id_of(home: Path) -> str | None:
    """The folder's id; None where it carries none that can be read."""
    try:
        return identity.of_folder(home)
    except SurgeryError:
        return None


def _agree(store: Store) -> list[str]:
    """Give folder and catalogue one id."""
    with store.write() as db:
        mine, theirs = _id_of(store.home), schema.value(db, "workspace")
        if mine and mine == theirs:
            return []
        if mine and theirs:
            raise WorkspaceError(
                "SURGERY_DATABASE names the catalogue of another workspace.",
                "Name the one that belongs to this folder.",
            )
        agreed = mine or theirs or new_id()
        schema.set_value(db, "workspace", agreed)
        identity.to_folder(store.home, agreed)
        return ["Gave the folder and the catalogue one id."]


def _settle(store: Store, kind: str, row: Mapping[str, Any]) -> list[str]:
    """Quarantine what differs, take back what is whole again, give checksums to what has none."""
    name = f"{kind}/{row['id']} {row['name']!r}"
    found = _differences(store, kind, row)
    if found and row["state"] != "damaged":
        integrity.quarantine(store, kind, row, found)
        return [f"Quarantined {name}: {'; '.join(found[:3])}."]
    if not found and row["state"] == "damaged":
        integrity.readmit(store, kind, row)
        return [f"Took {name} back: it is as it was committed."]
    if not found and row["checksum"] is None and integrity.examine(store, kind, row):
        return [f"Quarantined {name}: its model or data changed."]
    return []


def _aside(home: Path, path: Path, kind: str) -> str:
    """Move something to `quarantine/`; its new name there."""
    (home / QUARANTINE).mkdir(mode=0o700, exist_ok=True)
    target = home / QUARANTINE / f"{kind}-{path.name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{new_id()}"
    path.rename(target)
    return f"{QUARANTINE}/{target.name}"
