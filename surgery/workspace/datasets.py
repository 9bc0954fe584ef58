"""Datasets: folders made by whoever imports, committed like versions."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from surgery.workspace import checksums, files, integrity
from surgery.workspace.catalogue import datasets, projects
from surgery.workspace.projects import revise
from surgery.workspace.queue import finish
from surgery.workspace.rows import DatasetRow
from surgery.workspace.settings import Settings, TrainedOn
from surgery.workspace.store import Store, clean_name, fetch, find, moment, new_id

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

_FIELDS = ("id", "project", "name", "digest", "kind", "task", "samples", "bytes", "state")
ROLES = ("train", "val", "preserve", "unlabelled", "new", "test")


def dataset_of(store: Store, row: Mapping[str, Any]) -> DatasetRow:
    """The public form of a catalogue row."""
    return DatasetRow(
        created=moment(row["created"]),
        classes=tuple(row["classes"]),
        folder=store.home / "datasets" / row["id"],
        **{name: row[name] for name in _FIELDS},
    )


def get(store: Store, id: str) -> DatasetRow:
    """One dataset's row."""
    with store.read() as db:
        return dataset_of(store, find(db, datasets, id, "dataset"))


def listing(store: Store, project: str) -> list[DatasetRow]:
    """The datasets of a project, oldest first."""
    with store.read() as db:
        find(db, projects, project, "project")
        rows = select(datasets).where(datasets.c.project == project).order_by(datasets.c.created)
        return [dataset_of(store, row) for row in fetch(db, rows)]


def open_dataset(store: Store, id: str) -> Dataset:
    """Open the data itself.

    Raises:
        DamagedError: its files are not those that were imported.
    """
    from surgery.data.dataset import Dataset

    with store.read() as db:
        row = find(db, datasets, id, "dataset")
    integrity.require(store, "datasets", row)
    return Dataset.open(store.home / "datasets" / id)


def add(
    store: Store,
    project: str,
    name: str,
    make: Callable[[Path], Dataset],
    job: str | None = None,
    trained_on: TrainedOn | None = None,
) -> DatasetRow:
    """Let `make` write a dataset into a fresh folder, then commit it; a project's first one is put to use.

    Raises:
        DiskFullError: nothing was written.
    """
    id, name = new_id(), clean_name(name, "dataset")
    with files.full_disk_refused(f"dataset {name!r}"), files.staging(store.home, id) as staged:
        data = make(staged)
        row = {
            "id": id,
            "project": project,
            "name": name,
            "created": time.time(),
            "digest": data.digest,
            "kind": data.kind,
            "task": data.task,
            "classes": list(data.classes),
            "samples": sum(len(data.ids(role)) for role in ROLES),
            "bytes": files.size(staged),
        }
        files.force_to_disk(staged)
        return _publish(store, staged, row, job, trained_on)


def _publish(
    store: Store, staged: Path, row: Mapping[str, Any], job: str | None, trained_on: TrainedOn | None
) -> DatasetRow:
    target, sums = store.home / "datasets" / row["id"], checksums.of_folder(staged)
    try:
        with store.write() as db:
            project = find(db, projects, row["project"], "project")
            if trained_on is not None:
                settings = Settings.parse(project["settings"]).knowing(row["id"], trained_on).to_json()
                db.execute(update(projects).where(projects.c.id == project["id"]).values(settings=settings))
                project = {**project, "settings": settings}
            row = {**row, "state": "ready"}
            row["checksum"] = integrity.seal(staged, "datasets", row, project, sums)
            db.execute(insert(datasets).values(**row))
            what = f"imported dataset {row['name']!r}"
            store.record(db, what, project=project["id"], subject=row["id"], digest=row["digest"])
            if project["dataset"] is None:
                revise(store, db, project["id"], f"chose dataset {row['name']!r}", subject=row["id"], dataset=row["id"])
            if job is not None:
                finish(store, db, job, {"dataset": row["id"]})
            files.publish(staged, target)
            return dataset_of(store, find(db, datasets, row["id"], "dataset"))
    except BaseException:
        with store.read() as db:  # an interrupt may also come just after the transaction was committed
            if not db.scalar(select(func.count()).where(datasets.c.id == row["id"])):
                shutil.rmtree(target, ignore_errors=True)
        raise
