"""Fill the catalogue again from the folders: each says in `record.json` what its row was.

Folders from before there were records tell less: what they do not say (names of versions, the project of a dataset) is
made up in a way that shows it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, insert, select, update

from surgery.errors import SurgeryError
from surgery.workspace import checksums, integrity
from surgery.workspace.catalogue import lineage, projects, versions
from surgery.workspace.identity import KINDS
from surgery.workspace.store import Store, fetch, new_id

Row = dict[str, Any]
Aside = Callable[[Path, Path, str], str]
RECOVERED = "Recovered"
OUTCOME = "Recovered from its folders"  # of a project that came back, until its next surgery


def take_up(store: Store, names: Sequence[str], aside: Aside) -> list[str]:
    """Add rows for folders ("versions/ID", …) that the catalogue does not know; what is not whole is set aside.

    A project that is gone comes back under its name, with its newest version as the current one.
    """
    done, found = [], []
    for name in names:
        kind, _, id = name.partition("/")
        folder = store.home / kind / id
        damage = checksums.damage(folder, None) if (folder / checksums.LIST).exists() else []
        row, project = (None, {}) if damage else _record(store, kind, folder)
        if row is None:
            why = "; ".join(damage[:3]) or "it says too little of itself"
            done.append(f"Set {name} aside as {aside(store.home, folder, kind)}: {why}.")
        else:
            found.append((kind, row, project))
    for kind, row, project in sorted(found, key=lambda one: (one[0] == "fleets", one[1]["created"])):
        done.append(_add(store, kind, row, project))
    return done


def lost(store: Store) -> list[str]:
    """What is missing around rows whose folders are there: "project ID" and "lineage of ID"."""
    with store.read() as db:
        there = set(db.scalars(select(projects.c.id)))
        owners = {id for table in KINDS.values() for id in db.scalars(select(table.c.project))}
        known, ids = set(db.scalars(select(lineage.c.version))), list(db.scalars(select(versions.c.id)))
    return [f"project {id}" for id in sorted(owners - there)] + [f"lineage of {id}" for id in ids if id not in known]


def put_back(store: Store) -> list[str]:
    """Add the projects and lineages that `lost` names, from the folders' records."""
    done = lost(store)
    for kind, table in KINDS.items():
        with store.read() as db:
            rows = fetch(db, select(table).order_by(table.c.created))
        for row in rows:
            if {f"project {row['project']}", f"lineage of {row['id']}"} & set(done):
                _around(store, kind, row)
    return [f"Put back {what}." for what in done]


def _around(store: Store, kind: str, row: Row) -> None:
    told, project = _record(store, kind, store.home / kind / row["id"])
    owner = {"id": row["project"], "name": project.get("name", f"{RECOVERED} {row['project'][:4]}")}
    kept = (told or {}).get("kept")
    with store.write() as db:
        _project(store, db, owner)
        if kind == "versions":
            _version(db, row, _kept(store, row) if kept is None else kept)
        _first_dataset(db, kind, row)


def _record(store: Store, kind: str, folder: Path) -> tuple[Row | None, Row]:
    """The row and the project (id, name) that a folder tells of; None when it tells too little."""
    try:
        if (folder / integrity.RECORD).exists():
            told = json.loads((folder / integrity.RECORD).read_bytes())
            row: Row = {**told["row"], "state": "ready", "checksum": checksums.of_list(folder)}
            return row, dict(told["project"])
        row = _OLD[kind](store, folder)
        return row, {"id": row["project"], "name": f"{RECOVERED} {row['project'][:4]}"}
    except (OSError, ValueError, KeyError, TypeError, SurgeryError):
        return None, {}


def _old_version(_store: Store, folder: Path) -> Row:
    """What a version of 0.1.0 says: all but its name and number."""
    told = json.loads((folder / "version.json").read_bytes())
    about = json.loads((folder / "architecture.json").read_bytes())
    row = {name: told[name] for name in ("id", "project", "parent", "operation", "created", "digest")}
    kept = told.get("kept")
    return row | {
        "name": f"{told['operation']} ({RECOVERED.lower()})",
        "number": 0,
        "bytes": (folder / "model.safetensors").stat().st_size,
        "parameters": about["parameters"],
        "neurons": len(kept) if kept is not None else _neurons(folder),
        "kept": kept,
    }


def _neurons(folder: Path) -> int:
    """How many neurons the index of a model has; 0 without one."""
    from surgery.network.index_file import read_index

    path = folder / "index.safetensors"
    return read_index(path).n if path.exists() else 0


def _old_dataset(store: Store, folder: Path) -> Row:
    """What a dataset of 0.1.0 says: all but its project, which a plan may name."""
    from surgery.data.dataset import Dataset
    from surgery.workspace.datasets import ROLES

    data = Dataset.open(folder)
    return {
        "id": folder.name,
        "project": _project_of_dataset(store.home, folder.name),
        "name": data.name,
        "created": (folder / "dataset.json").stat().st_mtime,
        "digest": data.digest,
        "kind": data.kind,
        "task": data.task,
        "classes": list(data.classes),
        "samples": sum(len(data.ids(role)) for role in ROLES),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def _project_of_dataset(home: Path, id: str) -> str:
    """The project of a version whose plan names the dataset, of the only project there is, or a new one."""
    seen = set()
    for path in sorted((home / "versions").glob("*/version.json")):
        told = json.loads(path.read_bytes())
        seen.add(told["project"])
        plan = path.with_name("plan.json")
        if plan.exists() and id in json.loads(plan.read_bytes()).values():
            return str(told["project"])
    return str(seen.pop()) if len(seen) == 1 else new_id()


def _old_fleet(_store: Store, folder: Path) -> Row:
    """What a fleet of 0.1.0 says: all but its number."""
    told = json.loads((folder / "fleet.json").read_bytes())
    names = ("id", "project", "name", "created", "digest", "bytes", "members", "hosts", "back")
    return {**{name: told[name] for name in names}, "number": 0}


_OLD: dict[str, Callable[[Store, Path], Row]] = {
    "versions": _old_version,
    "datasets": _old_dataset,
    "fleets": _old_fleet,
}


def _add(store: Store, kind: str, row: Row, project: Mapping[str, Any]) -> str:
    """Add one row, with its project where that is gone."""
    table = KINDS[kind]
    kept = row.pop("kept", None)
    with store.write() as db:
        _project(store, db, project)
        if "number" in table.c:
            row["number"] = _number(db, kind, row)
        values = {name: value for name, value in row.items() if name in table.c}
        db.execute(insert(table).values(**{**values, "state": "ready"}))
        if kind == "versions":
            _version(db, row, _kept(store, row) if kept is None else kept)
        _first_dataset(db, kind, row)
        what = f"took up {kind.removesuffix('s')} {row['name']!r} again from its folder"
        store.record(db, what, project=row["project"], subject=row["id"], digest=row["digest"])
    if row.get("checksum") is None:
        integrity.adopt(store, kind, row["id"])
    return f"Took up {kind}/{row['id']} {row['name']!r} again, in project {project['name']!r}."


def _first_dataset(db: Connection, kind: str, row: Row) -> None:
    """Put a dataset to use where its project uses none."""
    if kind == "datasets":
        first = (projects.c.id == row["project"]) & projects.c.dataset.is_(None)
        db.execute(update(projects).where(first).values(dataset=row["id"]))


def _project(store: Store, db: Connection, project: Mapping[str, Any]) -> None:
    if not fetch(db, select(projects.c.id).where(projects.c.id == project["id"])):
        known = {"id": project["id"], "name": project["name"], "settings": _settings(store, project["id"])}
        db.execute(insert(projects).values(created=time.time(), **known))


def _settings(store: Store, project: str) -> Row:
    """The settings of a project as they were when its newest folder was committed."""
    folders = [folder for kind in KINDS for folder in sorted((store.home / kind).glob("*"))]
    told = [(row or {}, owner) for folder in folders for row, owner in [_record(store, folder.parent.name, folder)]]
    known = [
        (row["created"], owner["settings"]) for row, owner in told if owner.get("id") == project and "settings" in owner
    ]
    return dict(max(known, key=lambda one: float(one[0]), default=(0.0, {}))[1])


def _number(db: Connection, kind: str, row: Row) -> int:
    """Its own number where that is free, the next one where not."""
    table = KINDS[kind]
    used = set(db.scalars(select(table.c.number).where(table.c.project == row["project"])))
    return int(row["number"]) if row["number"] and row["number"] not in used else max(used, default=0) + 1


def _version(db: Connection, row: Row, kept: Sequence[int] | None) -> None:
    """The lineage of a version that came back; it becomes current where the project has none."""
    if not fetch(db, select(lineage.c.version).where(lineage.c.version == row["id"])):
        packed = None if kept is None else np.asarray(kept, dtype="<i8").tobytes()
        about = {"project": row["project"], "parent": row["parent"], "kept": packed}
        db.execute(insert(lineage).values(version=row["id"], **about))
    owner = fetch(db, select(projects).where(projects.c.id == row["project"]))[0]
    highest = db.scalar(select(func.max(versions.c.number)).where(versions.c.project == row["project"]))
    values: Row = {"numbered": max(owner["numbered"], highest or 0)}
    back = owner["current"] is None or owner["outcome"] == OUTCOME  # the project came back too: its newest one last
    if back and row.get("state", "ready") == "ready" and not row.get("candidate"):
        history = [*owner["history"], row["id"]]
        values |= {"current": row["id"], "history": history, "cursor": len(history) - 1, "outcome": OUTCOME}
    db.execute(update(projects).where(projects.c.id == row["project"]).values(**values))


def _kept(store: Store, row: Row) -> list[int] | None:
    try:
        told = json.loads((store.home / "versions" / row["id"] / "version.json").read_bytes())
    except (OSError, ValueError):  # its folder is gone or damaged
        return None
    kept: list[int] | None = told.get("kept")
    if kept is None and row["parent"] is not None:
        parent = store.home / "versions" / row["parent"] / integrity.RECORD
        same = parent.exists() and json.loads(parent.read_bytes())["row"]["neurons"] == row["neurons"]
        return list(range(row["neurons"])) if same else None
    return kept
