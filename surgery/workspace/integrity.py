"""What was committed is what is opened: checksums are made at the commit and compared before first use.

What has changed is quarantined: marked as damaged in the catalogue, never opened again and never made current, with
an event that names the file. It stays where it is; `surgery doctor` takes it back once its files are right again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, update

from surgery.errors import DamagedError
from surgery.workspace import checksums, files
from surgery.workspace.identity import KINDS
from surgery.workspace.store import Store

RECORD = "record.json"  # the catalogue's row, in the folder, for the day when the catalogue is lost
_checked: set[tuple[str, str]] = set()  # (folder, checksum) compared by this process
Row = Mapping[str, Any]


def seal(staged: Path, kind: str, row: Row, project: Row, sums: Mapping[str, str]) -> str:
    """Write what the catalogue will say into a folder that is about to be published; its checksum.

    sums: of the files that are there, made before the transaction: others wait for its end.
    """
    owner = {name: project[name] for name in ("id", "name", "settings")}
    document = {"kind": kind, "row": dict(row), "project": owner}
    files.write_file(staged / RECORD, json.dumps(document, indent=1).encode())
    return checksums.write(staged, {**sums, RECORD: checksums.of_file(staged / RECORD)})


def require(store: Store, kind: str, row: Row) -> None:
    """Refuse what was found damaged; compare a folder with its checksums, once in each process.

    kind: "versions", "datasets" or "fleets". A folder from before there were checksums gets them now.

    Raises:
        DamagedError: names every file that differs.
    """
    if row["state"] == "damaged":
        raise _refused(kind, row, ["it was found damaged before"])
    folder = store.home / kind / row["id"]
    if not store.checks or (str(folder), str(row["checksum"])) in _checked:
        return
    if found := examine(store, kind, row):
        raise _refused(kind, row, found)


def examine(store: Store, kind: str, row: Row) -> list[str]:
    """Compare a folder with its checksums and quarantine it when it differs; what differs."""
    folder, checksum = store.home / kind / row["id"], row["checksum"]
    if checksum is None:
        found = [] if _as_committed(kind, folder, row["digest"]) else ["model or data changed"]
        if not found:
            checksum = adopt(store, kind, row["id"])
    else:
        found = checksums.damage(folder, checksum)
    if found:
        quarantine(store, kind, row, found)
    else:
        _checked.add((str(folder), str(checksum)))
    return found


def require_file(store: Store, kind: str, row: Row, name: str) -> Path | None:
    """The path of one small file of a folder, compared with its checksum each time; None where it never had it.

    Raises:
        DamagedError: it differs, or the folder was found damaged.
    """
    if row["state"] == "damaged":
        raise _refused(kind, row, ["it was found damaged before"])
    folder = store.home / kind / row["id"]
    if row["checksum"] is not None and (found := checksums.damage(folder, row["checksum"], [name])):
        quarantine(store, kind, row, found)
        raise _refused(kind, row, found)
    return folder / name if (folder / name).exists() else None


def adopt(store: Store, kind: str, id: str) -> str:
    """Give a folder from before there were checksums its own; the checksum."""
    folder = store.home / kind / id
    checksum = checksums.write(folder, checksums.of_folder(folder))
    with store.write() as db:
        _set(db, kind, id, checksum=checksum)
    return checksum


def quarantine(store: Store, kind: str, row: Row, found: Sequence[str]) -> None:
    """Mark as damaged, and say so in the project's events."""
    with store.write() as db:
        _set(db, kind, row["id"], state="damaged")
        what = f"found {_named(kind, row)} damaged: {'; '.join(found[:5])}"
        store.record(db, what, project=row["project"], subject=row["id"], digest=row["digest"])


def readmit(store: Store, kind: str, row: Row) -> None:
    """Take back what is as it was committed again."""
    with store.write() as db:
        _set(db, kind, row["id"], state="ready")
        what = f"took {_named(kind, row)} back: its files are as they were committed"
        store.record(db, what, project=row["project"], subject=row["id"], digest=row["digest"])


def _set(db: Connection, kind: str, id: str, **values: object) -> None:
    table = KINDS[kind]
    db.execute(update(table).where(table.c.id == id).values(**values))


def _as_committed(kind: str, folder: Path, digest: str) -> bool:
    """Whether the parts that the old digest covers are unchanged."""
    from surgery.errors import SurgeryError

    try:
        if kind == "datasets":
            from surgery.data.dataset import Dataset

            return Dataset.open(folder).digest == digest
        from surgery.network import store as models

        return models.digest(folder) == digest
    except SurgeryError:
        return False


def _named(kind: str, row: Row) -> str:
    noun = kind.removesuffix("s")
    return f"{noun} {row['number']} {row['name']!r}" if "number" in row else f"{noun} {row['name']!r}"


def _refused(kind: str, row: Row, found: Sequence[str]) -> DamagedError:
    named = "; ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return DamagedError(
        f"The files of {_named(kind, row)} have changed since they were committed: {named}.",
        "It is quarantined. Restore its folder from a backup and run `surgery doctor --repair`, or go on from another.",
    )
