"""The catalogue: twelve tables in SQLite (WAL), or in PostgreSQL when SURGERY_DATABASE names one.

It says what exists; the bytes lie in folders beside it. Every write transaction is exclusive, so a folder can be
renamed into place inside the transaction that adds its row, and nobody ever sees one without the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)

FILE = "catalogue.db"  # in the workspace's folder
WAIT = 30.0  # seconds a writer waits for another one
_WRITER_LOCK = 7071_2601  # PostgreSQL: the advisory lock that makes writers take turns, as SQLite does by itself

metadata = MetaData()

# What the catalogue says of itself: "schema", the number in `schema`; "workspace", the id of the folder it belongs to.
meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

# What was deleted for good: the only folders that are ever removed. The row goes when the folder is gone.
tombstones = Table(
    "tombstones",
    metadata,
    Column("kind", String, primary_key=True),  # the folder's parent: "versions", "datasets", "fleets", "jobs", "scans"
    Column("name", String, primary_key=True),
    Column("when", Float, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("state", String, nullable=False, default="ready"),
    Column("current", String),
    Column("dataset", String),
    Column("outcome", Text, nullable=False, default=""),
    Column("revision", Integer, nullable=False, default=0),
    Column("history", JSON, nullable=False, default=list),  # the versions that were current, in order
    Column("cursor", Integer, nullable=False, default=-1),  # where in `history` the project stands
    Column("numbered", Integer, nullable=False, default=0),  # the last version number given
    Column("settings", JSON, nullable=False, default=dict),  # what `settings.Settings` holds
)

versions = Table(
    "versions",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("parent", String),
    Column("created", Float, nullable=False),
    Column("digest", String, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("neurons", Integer, nullable=False),
    Column("operation", String, nullable=False),
    Column("state", String, nullable=False, default="ready"),  # "ready", "trash" or "damaged"
    Column("checksum", String),  # over every file of the folder; NULL for one from before there were any
    Column("candidate", JSON, nullable=False, default=list),  # why it waits for a decision; [] where it does not
    Index("one_number_each", "project", "number", unique=True),
)

# Outlives its version, so that selections can be mapped past a version that was thrown away.
lineage = Table(
    "lineage",
    metadata,
    Column("version", String, primary_key=True),
    Column("project", String, nullable=False, index=True),
    Column("parent", String),
    Column("kept", LargeBinary),  # int64[N] little-endian: the parent's id of each neuron, −1 = new; NULL = unknown
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("digest", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("task", String, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("state", String, nullable=False, default="ready"),  # "ready" or "damaged"
    Column("checksum", String),
)

selections = Table(
    "selections",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False, index=True),
    Column("version", String, nullable=False),
    Column("name", String, nullable=False),
    Column("ids", JSON, nullable=False),
    Column("digest", String, nullable=False),
    Column("created", Float, nullable=False),
)

must_keep = Table(
    "must_keep",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False, index=True),
    Column("dataset", String, nullable=False),
    Column("number", Integer, nullable=False),  # 1, 2, … of a dataset: every change makes a new one
    Column("cases", JSON, nullable=False),  # [[sample, reason], …]
    Column("digest", String, nullable=False),
    Column("made_by", String, nullable=False),
    Column("created", Float, nullable=False),
)

fleets = Table(
    "fleets",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("digest", String, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("members", JSON, nullable=False),  # [[name, version], …]
    Column("hosts", JSON, nullable=False),  # [[guest, host], …]
    Column("back", JSON, nullable=False),  # the guests that run as they were
    Column("state", String, nullable=False, default="ready"),  # "ready", "trash" or "damaged"
    Column("checksum", String),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("project", String, nullable=False, index=True),
    Column("title", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("lane", String, nullable=False),
    Column("state", String, nullable=False, default="queued", index=True),
    Column("device", String, nullable=False, default=""),
    # The slot is held until the process is gone; UNIQUE is what makes two jobs in one slot impossible.
    Column("slot", String, unique=True),
    Column("pid", Integer),
    Column("pid_created", Float),  # what `children.born` says
    Column("host", String),  # what `liveness.here` says where the worker runs
    Column("lock", String),  # the file in the job's folder that the worker holds locked while it lives
    Column("heartbeat", Float),  # its last sign of life, by its own clock
    Column("elapsed", Float),  # seconds that it had run by then, whatever the clock says
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("limit", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("result", JSON, nullable=False, default=dict),
    Column("task", JSON, nullable=False),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("when", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("project", String, index=True),
    Column("subject", String),
    Column("digest", String),
    Column("details", JSON, nullable=False, default=dict),
    sqlite_autoincrement=True,
)


def connect(url: str) -> Engine:
    """Open the database at an SQLAlchemy `url`; `schema.prepare` sees to its tables."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would open transactions late and only for some statements; we open them ourselves in `_begin`.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={int(WAIT * 1000)}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a committed version survives a power cut


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
