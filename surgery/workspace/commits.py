"""Committing a version: staging folder → fsync → one transaction that renames the folder and adds the row.

A process killed at any moment leaves nothing but a staging folder, or a renamed folder without a row beside it, which
the next opening moves to `quarantine/`; a row always has its complete folder.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, func, insert, select, update

from surgery.errors import ModelError, WorkspaceError
from surgery.workspace import checksums, files, history, integrity
from surgery.workspace.catalogue import lineage, projects, versions
from surgery.workspace.queue import finish
from surgery.workspace.rows import Version
from surgery.workspace.store import Store, clean_name, find, new_id
from surgery.workspace.versions import version_of

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from surgery.network.model import Model
    from surgery.network.part import Part

ANY = "any"  # as `expected_current`: become current whatever is current now
_LIBRARIES = ("model-surgery", "torch", "torchvision", "numpy", "safetensors")


@dataclass(frozen=True)
class Draft:
    """Everything a new version is made of.

    `candidate`: why the version waits for a decision and does not become current; () where nothing speaks against it.
    `expected_current`: the version becomes current only while this one is; the work itself is never refused.
    `job`: the job that this commit finishes, in the same transaction; a job cancelled meanwhile commits nothing.
    `sample`: float[b, *input.shape], a few real samples on which the written model is run too.
    """

    project: str
    model: Model
    name: str
    parent: str | None = None
    operation: str = "import"
    plan: Mapping[str, Any] | None = None
    receipt: Mapping[str, Any] | None = None
    kept: Tensor | None = None
    tables: Mapping[str, DataFrame] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    make_current: bool = True
    candidate: Sequence[str] = ()
    expected_current: str | None = ANY
    job: str | None = None
    sample: Tensor | None = None


def commit(store: Store, draft: Draft) -> Version:
    """Write the model and everything that explains it; return the new version.

    Raises:
        DiskFullError: nothing was written.
        ModelError: read back from its files, the model does not return what the one in memory does.
        Cancelled: the job that makes it was cancelled; nothing was written.
    """
    from surgery.network.precision import as_stored

    draft = replace(draft, model=as_stored(draft.model))
    id, name = new_id(), clean_name(draft.name, "version")
    with files.full_disk_refused(f"version {name!r}"), files.staging(store.home, id) as staged:
        row = _write(store, staged, id, draft)
        _prove(staged, name, draft)
        files.force_to_disk(staged)
        return _publish(store, staged, {**row, "name": name}, draft)


def _write(store: Store, staged: Path, id: str, draft: Draft) -> dict[str, Any]:
    """Fill the staging folder; the catalogue row it stands for."""
    from surgery.network import part
    from surgery.network import store as models

    digest = models.save(draft.model, staged)
    for name, document in (("plan", draft.plan), ("receipt", draft.receipt)):
        if document is not None:
            (staged / f"{name}.json").write_text(json.dumps(document, indent=1))
    if draft.parts:
        part.save(draft.parts, staged)
    for name, table in draft.tables.items():
        (staged / "tables").mkdir(exist_ok=True)
        table.to_parquet(staged / "tables" / f"{name}.parquet")
    row = {
        "id": id,
        "project": draft.project,
        "parent": draft.parent,
        "operation": draft.operation,
        "created": time.time(),
        "digest": digest,
    }
    (staged / "version.json").write_text(json.dumps({**row, **_explain(store, draft)}, indent=1))
    return row | {
        "bytes": (staged / "model.safetensors").stat().st_size,
        "parameters": sum(weight.numel() for weight in draft.model.module.parameters()),
        "neurons": draft.model.index.n if draft.model.index else 0,
    }


def _prove(staged: Path, name: str, draft: Draft) -> None:
    """Read the model back from the staging folder and run it, before anybody is told that there is a version.

    Raises:
        ModelError: it cannot be read, or does not return what the one in memory does.
    """
    from surgery.network import part, proof
    from surgery.network import store as models

    what = f"Version {name!r}"
    try:
        again = models.load(staged)
        part.load(staged)
    except ModelError as error:
        raise ModelError(f"{what} was not kept: it cannot be read back: {error.what}", error.fix) from error
    samples = [] if draft.sample is None else [draft.sample]
    proof.same(again.module, draft.model.module, [draft.model.input.example(2), *samples], what)


def _explain(store: Store, draft: Draft) -> dict[str, Any]:
    """What a version's folder says of itself, for the day when the catalogue is lost."""
    return {
        "kept": None if draft.kept is None else draft.kept.tolist(),
        "who": store.who,
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }


def _publish(store: Store, staged: Path, row: dict[str, Any], draft: Draft) -> Version:
    target, sums = store.home / "versions" / row["id"], checksums.of_folder(staged)
    try:
        with store.write() as db:
            project = find(db, projects, draft.project, "project")
            number = project["numbered"] + 1
            parent = _parent(db, draft)
            row = {**row, "number": number, "state": "ready", "candidate": list(draft.candidate)}
            row["checksum"] = integrity.seal(staged, "versions", row, project, sums)
            db.execute(insert(versions).values(**row))
            db.execute(insert(lineage).values(**_ancestry(row, draft, parent)))
            _note(store, db, project, row, draft)
            if draft.job is not None:
                finish(store, db, draft.job, {"version": row["id"], "candidate": row["candidate"]})
            files.publish(staged, target)
            return version_of(store, find(db, versions, row["id"], "version"))
    except BaseException:
        with store.read() as db:  # an interrupt may also come just after the transaction was committed
            if not db.scalar(select(func.count()).where(versions.c.id == row["id"])):
                shutil.rmtree(target, ignore_errors=True)
        raise


def _parent(db: Connection, draft: Draft) -> Mapping[str, Any] | None:
    if draft.parent is None:
        return None
    parent = find(db, versions, draft.parent, "version")
    if parent["project"] != draft.project:
        raise WorkspaceError(f"The parent {parent['name']!r} belongs to another project.", "Name one of this project.")
    return parent


def _ancestry(row: Mapping[str, Any], draft: Draft, parent: Mapping[str, Any] | None) -> dict[str, Any]:
    """The lineage row. An operation that says nothing of old ids has left the neurons as they were."""
    kept: list[int] | None = None if draft.kept is None else draft.kept.tolist()
    if kept is None and parent is not None and parent["neurons"] == row["neurons"]:
        kept = list(range(row["neurons"]))
    packed = None if kept is None else np.asarray(kept, dtype="<i8").tobytes()
    return {"version": row["id"], "project": draft.project, "parent": draft.parent, "kept": packed}


def _note(store: Store, db: Connection, project: Mapping[str, Any], version: Mapping[str, Any], draft: Draft) -> None:
    """Number the version in its project, record it, and make it current where that was asked for."""
    values = {"numbered": version["number"], "outcome": ""}  # work goes on: the doctor's note is no longer true
    db.execute(update(projects).where(projects.c.id == project["id"]).values(**values))
    what = f"committed version {version['number']} {version['name']!r} ({draft.operation})"
    if draft.candidate:
        what = f"{what} as a candidate: {'; '.join(draft.candidate)}"
    store.record(db, what, project=project["id"], subject=version["id"], digest=version["digest"])
    if draft.make_current and not draft.candidate and draft.expected_current in (ANY, project["current"]):
        current = f"made version {version['number']} {version['name']!r} current"
        history.advance(store, db, project, version["id"], current)
