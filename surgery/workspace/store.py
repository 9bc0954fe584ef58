"""Where a workspace lives: its folder, its catalogue, and the name of whoever acts.

with store.write() as db:       # exclusive: all or nothing
    db.execute(...)
    store.record(db, "…")
"""

from __future__ import annotations

import getpass
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import Connection, Engine, Select, Table, insert, select

from surgery.errors import NotFoundError, WorkspaceError
from surgery.workspace import catalogue
from surgery.workspace.files import full_disk_refused

FOLDERS = ("versions", "datasets", "fleets", "scans", "staging", "trash", "jobs", "uploads", "exports")


@dataclass(frozen=True)
class Store:
    """Folder + catalogue + who acts: what every function of this package is given."""

    home: Path
    engine: Engine
    who: str

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the catalogue."""
        with self.engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """An exclusive transaction: committed at the end of the block, undone by any exception.

        Raises:
            DiskFullError: the catalogue itself cannot grow.
        """
        with full_disk_refused("the catalogue"), self.engine.execution_options(writes=True).begin() as db:
            yield db

    def record(
        self,
        db: Connection,
        what: str,
        *,
        project: str | None = None,
        subject: str | None = None,
        digest: str | None = None,
        **details: Any,
    ) -> None:
        """Append to the events inside the transaction that does what they tell."""
        row = {"when": time.time(), "who": self.who, "what": what, "details": details}
        db.execute(insert(catalogue.events).values(**row, project=project, subject=subject, digest=digest))


def open_store(home: Path | None, who: str | None) -> Store:
    """Make the folders and the catalogue that are missing.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    home = (home or default_home()).expanduser().resolve()
    try:
        for name in FOLDERS:
            (home / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"The workspace folder {str(home)!r} cannot be used: {error.strerror}.",
            "Set SURGERY_HOME to a folder that you may write to.",
        ) from error
    url = os.environ.get("SURGERY_DATABASE") or catalogue.sqlite_url(home / "catalogue.db")
    return Store(home, catalogue.connect(url), who or user())


def default_home() -> Path:
    """SURGERY_HOME, or the user's data folder."""
    return Path(os.environ.get("SURGERY_HOME") or platformdirs.user_data_dir("model-surgery", appauthor=False))


def user() -> str:
    """The login name of this process; containers may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"


def new_id() -> str:
    """A fresh id: ten lower-case hex digits."""
    return secrets.token_hex(5)


def moment(seconds: float) -> datetime:
    """Catalogue time (seconds since 1970) as an aware UTC time."""
    return datetime.fromtimestamp(seconds, UTC)


def fetch(db: Connection, statement: Select[Any]) -> list[dict[str, Any]]:
    """The rows that a statement finds."""
    return [dict(row) for row in db.execute(statement).mappings()]


def find(db: Connection, table: Table, id: str, noun: str, key: str = "id") -> dict[str, Any]:
    """The row of `table` whose `key` column is `id`.

    Raises:
        NotFoundError: there is none.
    """
    rows = fetch(db, select(table).where(table.c[key] == id))
    if not rows:
        raise NotFoundError(
            f"There is no {noun} {id!r} in this workspace.", f"Choose a {noun} from the list; it may have been deleted."
        )
    return rows[0]


def clean_name(name: str, noun: str) -> str:
    """A name without outer blanks.

    Raises:
        WorkspaceError: it is empty, longer than 120 characters or has a line break.
    """
    name = name.strip()
    if not 1 <= len(name) <= 120 or not name.isprintable():
        raise WorkspaceError(
            f"A {noun} cannot be named {name[:40]!r}: a name has 1 to 120 printable characters.", "Give another name."
        )
    return name
