"""Versions as rows and folders: list, open, rename, throw away, verify."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from sqlalchemy import select, update

from surgery.errors import DamagedError, NotFoundError, WorkspaceError
from surgery.workspace import integrity
from surgery.workspace.catalogue import fleets, lineage, projects, versions
from surgery.workspace.rows import Version
from surgery.workspace.store import Store, clean_name, fetch, find, moment

if TYPE_CHECKING:
    from pandas import DataFrame

    from surgery.network.model import Model

_FIELDS = (
    "id", "project", "name", "number", "parent", "digest", "bytes", "parameters", "neurons", "operation", "state",
)  # fmt: skip


def version_of(store: Store, row: Mapping[str, Any]) -> Version:
    """The public form of a catalogue row."""
    folder = store.home / "versions" / row["id"]
    about = {name: row[name] for name in _FIELDS}
    return Version(created=moment(row["created"]), folder=folder, candidate=tuple(row["candidate"]), **about)


def get(store: Store, id: str) -> Version:
    """One version, also from the trash."""
    with store.read() as db:
        return version_of(store, find(db, versions, id, "version"))


def listing(store: Store, project: str, trashed: bool) -> list[Version]:
    """The versions of a project by number."""
    shown = versions.c.state == "trash" if trashed else versions.c.state != "trash"
    wanted = (versions.c.project == project) & shown
    with store.read() as db:
        find(db, projects, project, "project")
        rows = fetch(db, select(versions).where(wanted).order_by(versions.c.number))
        return [version_of(store, row) for row in rows]


def model(store: Store, id: str) -> Model:
    """Load the model of a version with the parts that lie in it. Imports torch.

    Raises:
        DamagedError: its files are not those that were committed.
    """
    from surgery.network import part
    from surgery.network import store as models

    row = _row(store, id)
    integrity.require(store, "versions", row)
    folder = store.home / "versions" / row["id"]
    return replace(models.load(folder), parts=part.load(folder))


def verify(store: Store, id: str) -> str:
    """Compare every file of a version with its checksums; the digest of its model.

    Raises:
        DamagedError: the bytes are not those that were committed; the version is quarantined.
    """
    row = _row(store, id)
    if found := integrity.examine(store, "versions", row):
        raise DamagedError(
            f"The files of version {row['number']} {row['name']!r} have changed: {'; '.join(found[:5])}.",
            f"Restore {str(store.home / 'versions' / id)!r} from a backup and run `surgery doctor --repair`, or go on "
            "from another version.",
        )
    return str(row["digest"])


def inspect(store: Store, id: str) -> dict[str, Any]:
    """The architecture file of a version. Raises DamagedError."""
    from surgery.network import store as models

    _file(store, id, models.DESCRIPTION)
    return models.inspect(store.home / "versions" / id)


def table(store: Store, id: str, name: str) -> DataFrame:
    """A table committed with a version.

    Raises:
        NotFoundError: the version has no table of this name.
    """
    import pandas

    path = _file(store, id, f"tables/{Path(name).name}.parquet")
    if path is None:
        version = get(store, id)
        raise NotFoundError(f"Version {version.number} {version.name!r} has no table {name!r}.", "")
    return pandas.read_parquet(path)


def author(store: Store, id: str) -> str:
    """Who committed a version, as its own file says; "" where it does not."""
    path = _file(store, id, "version.json")
    return str(json.loads(path.read_bytes()).get("who") or "") if path else ""


def parts(store: Store, id: str) -> list[dict[str, Any]]:
    """What is known of the parts that lie in a version, without torch; whole they come with `model`."""
    path = _file(store, id, "parts.json")
    return json.loads(path.read_bytes()) if path else []


def document(store: Store, id: str, name: Literal["plan", "receipt"]) -> dict[str, Any] | None:
    """The plan or receipt committed with a version; None for a root."""
    path = _file(store, id, f"{name}.json")
    return cast(dict[str, Any], json.loads(path.read_bytes())) if path else None


def _row(store: Store, id: str) -> Mapping[str, Any]:
    with store.read() as db:
        return find(db, versions, id, "version")


def _file(store: Store, id: str, name: str) -> Path | None:
    """The path of a small file of a version, compared with its checksum; None where it never had it."""
    return integrity.require_file(store, "versions", _row(store, id), name)


def kept(store: Store, id: str) -> list[int] | None:
    """For each neuron its id in the parent, −1 for a new one; None when that is not known."""
    with store.read() as db:
        return unpack(find(db, lineage, id, "version", key="version")["kept"])


def unpack(kept: bytes | None) -> list[int] | None:
    """Read the `kept` column."""
    return None if kept is None else [int(number) for number in np.frombuffer(kept, dtype="<i8")]


def rename(store: Store, id: str, name: str) -> Version:
    """Give another name."""
    name = clean_name(name, "version")
    with store.write() as db:
        row = find(db, versions, id, "version")
        db.execute(update(versions).where(versions.c.id == id).values(name=name))
        what = f"renamed version {row['number']} to {name!r}"
        store.record(db, what, project=row["project"], subject=id, digest=row["digest"])
        return version_of(store, find(db, versions, id, "version"))


def discard(store: Store, id: str) -> Version:
    """Put a candidate into the trash.

    Raises:
        WorkspaceError: it is not a candidate, or a member of a fleet.
    """
    version = get(store, id)
    if not version.candidate:
        raise WorkspaceError(
            f"Version {version.number} {version.name!r} is not a candidate.",
            "Only a result that waits for a decision can be discarded; move any other version to the trash.",
        )
    return move(store, id, "trash")


def move(store: Store, id: str, state: Literal["ready", "trash"]) -> Version:
    """Put a version into the trash or take it out again; its children have complete files of their own.

    Raises:
        WorkspaceError: it is the current version, or a member of a fleet.
    """
    with store.write() as db:
        row = find(db, versions, id, "version")
        member = [one for one in fetch(db, select(fleets)) if id in dict(one["members"]).values()]
        if state == "trash" and member:
            raise WorkspaceError(
                f"Version {row['number']} {row['name']!r} is a member of fleet {member[0]['number']} "
                f"{member[0]['name']!r}, which could not take it back without it.",
                "Delete the fleet for good first.",
            )
        if state == "trash" and find(db, projects, row["project"], "project")["current"] == id:
            raise WorkspaceError(
                f"Version {row['number']} {row['name']!r} is the current one and cannot be deleted.",
                "Make another version current first.",
            )
        db.execute(update(versions).where(versions.c.id == id).values(state=state))
        what = f"{'trashed' if state == 'trash' else 'restored'} version {row['number']} {row['name']!r}"
        store.record(db, what, project=row["project"], subject=id, digest=row["digest"])
        return version_of(store, find(db, versions, id, "version"))
