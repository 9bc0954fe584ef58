"""Which folder and which catalogue belong together: both carry the id of the workspace.

A catalogue that was lost, or belongs to another folder, must not make the product take the folder's work for rubbish:
it then refuses to start, says what it found, and `surgery doctor` puts things right.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sqlalchemy import Connection, func, select

from surgery.errors import WorkspaceError
from surgery.workspace import schema
from surgery.workspace.catalogue import datasets, fleets, versions
from surgery.workspace.files import write_file
from surgery.workspace.store import Store, new_id

FILE = "workspace.json"
KINDS = {"versions": versions, "datasets": datasets, "fleets": fleets}  # folders that hold work, and their tables
_ID = re.compile(r"[0-9a-f]{10}")  # what `new_id` makes
_DOCTOR = "Run `surgery doctor` to see what is there and how it can be put right; nothing was changed."


def bind(store: Store) -> None:
    """Check that folder and catalogue belong together; give both an id where neither has one.

    Raises:
        WorkspaceError: they do not, or folders exist that a fresh catalogue does not know.
    """
    with store.read() as db:
        if (mine := of_folder(store.home)) and schema.value(db, "workspace") == mine:
            return
    with store.write() as db:
        mine, theirs = of_folder(store.home), schema.value(db, "workspace")
        if mine != theirs or mine is None:
            _check(store, db, mine, theirs)
            agreed = mine or theirs or new_id()
            schema.set_value(db, "workspace", agreed)
            to_folder(store.home, agreed)


def of_folder(home: Path) -> str | None:
    """The id that the folder carries; None where it carries none."""
    try:
        return str(json.loads((home / FILE).read_bytes())["id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{home / FILE} cannot be read: {error}.", _DOCTOR) from error


def to_folder(home: Path, id: str) -> None:
    """Write the id into the folder."""
    write_file(home / FILE, json.dumps({"id": id}).encode())


def folders(home: Path) -> list[str]:
    """The folders that hold work: "versions/ID", …; others are not of this product."""
    return [
        f"{kind}/{path.name}"
        for kind in KINDS
        for path in sorted((home / kind).iterdir() if (home / kind).is_dir() else ())
        if path.is_dir() and _ID.fullmatch(path.name)
    ]


def unknown(store: Store) -> list[str]:
    """The folders of work that the catalogue does not know; those that are being committed are none."""
    there, staged = folders(store.home), {path.name.split(".")[0] for path in (store.home / "staging").iterdir()}
    with store.read() as db:
        known = _known(db)
    return [name for name in there if name not in known and name.partition("/")[2] not in staged]


def _known(db: Connection) -> set[str]:
    return {f"{kind}/{id}" for kind, table in KINDS.items() for id in db.scalars(select(table.c.id))}


def _check(store: Store, db: Connection, mine: str | None, theirs: str | None) -> None:
    rows = sum(db.scalar(select(func.count()).select_from(table)) or 0 for table in KINDS.values())
    there = folders(store.home)
    where = store.engine.url.render_as_string(hide_password=True)
    if mine and theirs:
        raise WorkspaceError(f"The folder {store.home} and the catalogue {where} belong to two workspaces.", _DOCTOR)
    if there and not rows:
        named = ", ".join(there[:5]) + (f" and {len(there) - 5:,} more" if len(there) > 5 else "")
        raise WorkspaceError(
            f"The catalogue {where} is empty, but {store.home} holds {len(there):,} folders of work: {named}.",
            f"If SURGERY_DATABASE names the team's catalogue, set it here too. {_DOCTOR}",
        )
    if rows and not _known(db) & set(there):
        raise WorkspaceError(
            f"The catalogue {where} lists {rows:,} versions, datasets and fleets, and {store.home} holds none of them.",
            f"Set SURGERY_HOME to the folder that belongs to it. {_DOCTOR}",
        )
