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
from sqlalchemy.exc import DatabaseError, OperationalError

from surgery.errors import NotFoundError, WorkspaceError
from surgery.workspace import catalogue
from surgery.workspace.files import full_disk_refused

FOLDERS = ("versions", "datasets", "fleets", "scans", "staging", "trash", "jobs", "uploads", "exports")
_DAMAGED = ("malformed", "not a database", "disk i/o error", "no such table", "no such column", "corrupt")


@dataclass(frozen=True)
class Store:
    """Folder + catalogue + who acts: what every function of this package is given.

    checks: whether what is opened is first compared with its checksums, once in each process.
    """

    home: Path
    engine: Engine
    who: str
    checks: bool = True

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the catalogue.

        Raises:
            WorkspaceError: it is locked, damaged or cannot be reached.
        """
        with catalogue_named(self.engine), self.engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """An exclusive transaction: committed at the end of the block, undone by any exception.

        Raises:
            DiskFullError: the catalogue itself cannot grow.
            WorkspaceError: it is locked, damaged, read-only or cannot be reached.
        """
        engine = self.engine.execution_options(writes=True)
        with catalogue_named(self.engine), full_disk_refused("the catalogue"), engine.begin() as db:
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


@contextmanager
def catalogue_named(engine: Engine) -> Iterator[None]:
    """Say in plain words what the database says of itself.

    Raises:
        WorkspaceError: it is locked, damaged, read-only or cannot be reached.
    """
    try:
        yield
    except DatabaseError as error:
        where, said = engine.url.render_as_string(hide_password=True), str(error.orig or error).lower()
        if any(words in said for words in _DAMAGED):
            what, fix = "is damaged", "Run `surgery doctor`: it can be made again from a copy and from the folders."
        elif not isinstance(error, OperationalError):
            raise
        elif "locked" in said:
            what, fix = f"was busy for more than {catalogue.WAIT:.0f} s", "Try again; another process writes to it."
        elif "readonly" in said or "read-only" in said:
            what, fix = "cannot be written", "Give yourself the right to write to it and to its folder."
        else:
            what, fix = "cannot be used", "Check its path or address, the rights to it, and that it is running."
        raise WorkspaceError(f"The catalogue {where} {what}: {error.orig}.", fix) from error


def open_store(home: Path | None, who: str | None, *, checks: bool = True) -> Store:
    """Make the folders and the catalogue that are missing, and bring an older catalogue up to date.

    Raises:
        WorkspaceError: the folder cannot be written, or it and the catalogue do not belong together.
    """
    from surgery.workspace import identity, schema

    home = (home or default_home()).expanduser().resolve()
    _make_folders(home)
    store = Store(home, catalogue.connect(database(home)), who or user(), checks)
    with catalogue_named(store.engine), full_disk_refused("the catalogue"):
        schema.prepare(store.engine)
    identity.bind(store)
    return store


def database(home: Path) -> str:
    """The URL of the catalogue: SURGERY_DATABASE, or a file in the folder."""
    return os.environ.get("SURGERY_DATABASE") or catalogue.sqlite_url(home / catalogue.FILE)


def _make_folders(home: Path) -> None:
    """Make what is missing, for this user alone; nobody else may look into a folder that was open to all.

    Raises:
        WorkspaceError: the folder cannot be used.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FOLDERS:
            (home / name).mkdir(exist_ok=True)
        about = home.stat()
        if about.st_mode & 0o007 and (not hasattr(os, "getuid") or about.st_uid == os.getuid()):
            home.chmod(about.st_mode & 0o770)
    except OSError as error:
        raise WorkspaceError(
            f"The workspace folder {str(home)!r} cannot be used: {error.strerror}.",
            "Set SURGERY_HOME to a folder that you may write to.",
        ) from error


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
