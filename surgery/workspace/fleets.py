"""Fleets: models that share their beginnings, as rows and folders, committed like versions.

A fleet's folder holds every tensor once. Its members stay versions of their own: what a guest gave up lies there, so
that it can be taken back at any time, bit for bit. Which guests are back is the only thing of a fleet that changes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from surgery.errors import WorkspaceError
from surgery.workspace import checksums, files, integrity, versions
from surgery.workspace.catalogue import fleets, projects
from surgery.workspace.catalogue import versions as catalogue_versions
from surgery.workspace.queue import finish
from surgery.workspace.rows import Fleet
from surgery.workspace.store import Store, clean_name, fetch, find, moment, new_id

if TYPE_CHECKING:
    from pandas import DataFrame

    from surgery.network.fleet import Fleet as Network

_FIELDS = ("id", "project", "name", "number", "digest", "bytes", "state")


def fleet_of(store: Store, row: Mapping[str, Any]) -> Fleet:
    """The public form of a catalogue row."""
    return Fleet(
        members={str(name): str(version) for name, version in row["members"]},
        hosts={str(guest): str(host) for guest, host in row["hosts"]},
        back=tuple(row["back"]),
        created=moment(row["created"]),
        folder=store.home / "fleets" / row["id"],
        **{name: row[name] for name in _FIELDS},
    )


def add(
    store: Store,
    project: str,
    name: str,
    write: Callable[[Path], str],
    *,
    members: Mapping[str, str],
    hosts: Mapping[str, str],
    documents: Mapping[str, Mapping[str, Any]],
    tables: Mapping[str, DataFrame],
    back: Sequence[str] = (),
    job: str | None = None,
) -> Fleet:
    """Let `write` fill a fresh folder (it returns the digest), and commit it as a fleet: all of it, or nothing.

    members: name -> version; hosts: guest -> host, by name; documents: "plan" and "receipt"; back: guests that run
    as they were from the start; job: the job that this finishes, in the same transaction.

    Raises:
        DiskFullError: nothing was written. Cancelled: `job` was ended meanwhile.
        NotFoundError: a member was deleted for good meanwhile. WorkspaceError: a member's files have changed, or it is
            in the trash or in another project.
    """
    for version in members.values():
        versions.verify(store, version)
    id, name = new_id(), clean_name(name, "fleet")
    with files.full_disk_refused(f"fleet {name!r}"), files.staging(store.home, id) as staged:
        digest = write(staged)
        for title, document in documents.items():
            (staged / f"{title}.json").write_text(json.dumps(document, indent=1))
        for title, table in tables.items():
            table.to_parquet(staged / f"{title}.parquet")
        row = {
            "id": id,
            "project": project,
            "name": name,
            "created": time.time(),
            "digest": digest,
            "bytes": (staged / "model.safetensors").stat().st_size,
            "members": list(members.items()),
            "hosts": list(hosts.items()),
            "back": list(back),
        }
        (staged / "fleet.json").write_text(json.dumps({**row, "who": store.who}, indent=1))
        files.force_to_disk(staged)
        return _publish(store, staged, row, job)


def _publish(store: Store, staged: Path, row: dict[str, Any], job: str | None) -> Fleet:
    target, sums = store.home / "fleets" / row["id"], checksums.of_folder(staged)
    try:
        with store.write() as db:
            project = find(db, projects, row["project"], "project")
            for _, version in row["members"]:
                _check_member(find(db, catalogue_versions, version, "version"), project["id"])
            last = db.scalar(select(func.max(fleets.c.number)).where(fleets.c.project == row["project"]))
            number = (last or 0) + 1
            row = {**row, "number": number, "state": "ready"}
            row["checksum"] = integrity.seal(staged, "fleets", row, project, sums)
            db.execute(insert(fleets).values(**row))
            what = f"made fleet {number} {row['name']!r} of {len(row['members'])} models"
            store.record(db, what, project=row["project"], subject=row["id"], digest=row["digest"])
            if job is not None:
                finish(store, db, job, {"fleet": row["id"]})
            files.publish(staged, target)
            return fleet_of(store, find(db, fleets, row["id"], "fleet"))
    except BaseException:
        with store.read() as db:
            if not db.scalar(select(func.count()).where(fleets.c.id == row["id"])):
                shutil.rmtree(target, ignore_errors=True)
        raise


def _check_member(version: Mapping[str, Any], project: str) -> None:
    if version["state"] != "ready" or version["project"] != project:
        where = "the trash" if version["state"] != "ready" else "another project"
        raise WorkspaceError(
            f"Version {version['number']} {version['name']!r} is in {where}: a fleet could not take it back.",
            "Restore it, or leave it out.",
        )


def get(store: Store, id: str) -> Fleet:
    """One fleet."""
    with store.read() as db:
        return fleet_of(store, find(db, fleets, id, "fleet"))


def listing(store: Store, project: str, trashed: bool = False) -> list[Fleet]:
    """The fleets of a project, the newest first."""
    shown = fleets.c.state == "trash" if trashed else fleets.c.state != "trash"
    wanted = (fleets.c.project == project) & shown
    with store.read() as db:
        find(db, projects, project, "project")
        return [
            fleet_of(store, row) for row in fetch(db, select(fleets).where(wanted).order_by(fleets.c.number.desc()))
        ]


def set_back(store: Store, id: str, guest: str, back: bool, why: str) -> Fleet:
    """Let a guest run as it was (back), or share again; why: what the events say.

    Raises:
        WorkspaceError: the fleet has no such guest.
    """
    with store.write() as db:
        row = find(db, fleets, id, "fleet")
        guests = [guest for guest, _ in row["hosts"]]
        if guest not in guests:
            raise WorkspaceError(f"{guest!r} shares nothing in fleet {row['name']!r}.", f"Guests: {', '.join(guests)}.")
        now = [one for one in guests if (back if one == guest else one in row["back"])]
        if now != list(row["back"]):
            db.execute(update(fleets).where(fleets.c.id == id).values(back=now))
            what = (
                f"{'took back' if back else 'shared again'} {guest!r} in fleet {row['number']} {row['name']!r}: {why}"
            )
            store.record(db, what, project=row["project"], subject=id, digest=row["digest"])
        return fleet_of(store, find(db, fleets, id, "fleet"))


def move(store: Store, id: str, state: str) -> Fleet:
    """Into the trash, or out of it."""
    with store.write() as db:
        row = find(db, fleets, id, "fleet")
        db.execute(update(fleets).where(fleets.c.id == id).values(state=state))
        what = f"{'deleted' if state == 'trash' else 'restored'} fleet {row['number']} {row['name']!r}"
        store.record(db, what, project=row["project"], subject=id, digest=row["digest"])
        return fleet_of(store, find(db, fleets, id, "fleet"))


def rename(store: Store, id: str, name: str) -> Fleet:
    """Give another name."""
    with store.write() as db:
        find(db, fleets, id, "fleet")
        db.execute(update(fleets).where(fleets.c.id == id).values(name=clean_name(name, "fleet")))
        return fleet_of(store, find(db, fleets, id, "fleet"))


def network(store: Store, id: str) -> Network:
    """The fleet as a network, with guests that were taken back as the versions that they were. Imports torch.

    Raises:
        DamagedError: the files of the fleet, or of such a version, have changed.
    """
    from surgery.network import fleet_store

    with store.read() as db:
        row = find(db, fleets, id, "fleet")
    integrity.require(store, "fleets", row)
    fleet = fleet_of(store, row)
    found = fleet_store.load(fleet.folder)
    for guest in fleet.back:
        found.take_back(guest, versions.model(store, fleet.members[guest]).module)
    return found


def document(store: Store, id: str, name: str) -> dict[str, Any]:
    """The "plan" or "receipt" of a fleet. Raises DamagedError."""
    found: dict[str, Any] = json.loads(_file(store, id, f"{name}.json").read_bytes())
    return found


def table(store: Store, id: str) -> DataFrame:
    """Every share that was tried: what `Sharing.table` says. Raises DamagedError."""
    import pandas as pd

    return pd.read_parquet(_file(store, id, "shares.parquet"))


def _file(store: Store, id: str, name: str) -> Path:
    with store.read() as db:
        row = find(db, fleets, id, "fleet")
    return integrity.require_file(store, "fleets", row, name) or store.home / "fleets" / id / name
