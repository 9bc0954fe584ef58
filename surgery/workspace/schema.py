"""The catalogue's schema, numbered: a fresh catalogue is made at the latest number, an older one is brought to it.

| number | what it brought |
| --- | --- |
| 1 | ten tables, as released in 0.1.0, without a number |
| 2 | `meta` (schema, workspace), `tombstones`, checksums over all files, the machine and signs of life of a job |
| 3 | `projects.settings`, and `versions.candidate`: why a result waits for a decision |
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psutil
from sqlalchemy import Connection, Engine, Table, insert, inspect, select, text, update

from surgery.children import born
from surgery.errors import WorkspaceError
from surgery.workspace.catalogue import datasets, fleets, jobs, meta, metadata, projects, versions

LATEST = 3


def prepare(engine: Engine) -> bool:
    """Make the tables of a fresh catalogue, or bring an older one up to date; whether it was fresh.

    Raises:
        WorkspaceError: a newer version of the program wrote it.
    """
    with engine.connect() as db, db.begin():
        if _number(db) == LATEST:
            return False
    with engine.execution_options(writes=True).begin() as db:
        number = _number(db)  # again: another process may have been here
        if number > LATEST:
            raise WorkspaceError(
                f"The catalogue was written by a newer version of Model Surgery (schema {number}; this one reads up to "
                f"{LATEST}).",
                "Install the newer version again.",
            )
        metadata.create_all(db)
        for step in range(max(number, 1) + 1, LATEST + 1):
            if number:
                _STEPS[step](db)
        set_value(db, "schema", str(LATEST))
        return number == 0


def value(db: Connection, key: str) -> str | None:
    """An entry of the table `meta`."""
    found: str | None = db.scalar(select(meta.c.value).where(meta.c.key == key))
    return found


def set_value(db: Connection, key: str, text: str) -> None:
    """Set an entry of the table `meta`."""
    if value(db, key) is None:
        db.execute(insert(meta).values(key=key, value=text))
    else:
        db.execute(update(meta).where(meta.c.key == key).values(value=text))


def _number(db: Connection) -> int:
    """0 for an empty database, 1 for one from before there were numbers."""
    tables = set(inspect(db).get_table_names())
    if meta.name not in tables:
        return 1 if projects.name in tables else 0
    return int(value(db, "schema") or 0)


def _to_2(db: Connection) -> None:
    for table in (versions, datasets, fleets):
        _add(db, table, "checksum VARCHAR")
    _add(db, datasets, "state VARCHAR NOT NULL DEFAULT 'ready'")
    for column in ("host VARCHAR", "lock VARCHAR", "heartbeat FLOAT", "elapsed FLOAT"):
        _add(db, jobs, column)
    for row in db.execute(select(jobs.c.id, jobs.c.pid, jobs.c.pid_created).where(jobs.c.slot.is_not(None))).all():
        with suppress(psutil.NoSuchProcess):  # the start of a process was recorded by the clock
            if row.pid and abs(psutil.Process(row.pid).create_time() - row.pid_created) < 2.0:
                db.execute(update(jobs).where(jobs.c.id == row.id).values(pid_created=born(row.pid)))


def _to_3(db: Connection) -> None:
    _add(db, projects, "settings JSON NOT NULL DEFAULT '{}'")
    _add(db, versions, "candidate JSON NOT NULL DEFAULT '[]'")


def _add(db: Connection, table: Table, column: str) -> None:
    """Add a column ("NAME TYPE …") that the table does not have yet."""
    if column.split()[0] not in {one["name"] for one in inspect(db).get_columns(table.name)}:
        db.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {column}"))


_STEPS: dict[int, Callable[[Connection], None]] = {2: _to_2, 3: _to_3}
