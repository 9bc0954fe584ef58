"""Must-keep cases: the samples of a dataset that no surgery may break, in numbered states of which none is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select

from surgery.errors import SelectionError
from surgery.operations.base import digest_of
from surgery.workspace import datasets
from surgery.workspace.catalogue import must_keep
from surgery.workspace.queue import finish
from surgery.workspace.rows import MustKeep
from surgery.workspace.store import Store, fetch, moment, new_id

REASONS = ("pinned", "hard", "typical", "diverse")
_FIELDS = ("id", "project", "dataset", "number", "digest", "made_by")


def of_row(row: Mapping[str, Any]) -> MustKeep:
    """The public form of a catalogue row."""
    cases = {int(sample): str(reason) for sample, reason in row["cases"]}
    return MustKeep(cases=cases, created=moment(row["created"]), **{name: row[name] for name in _FIELDS})


def save(store: Store, dataset: str, cases: Mapping[int, str], job: str | None = None) -> MustKeep:
    """Save a new state of a dataset's set, provably without a sample of test.

    job: the job that this finishes, in the same transaction.

    Raises:
        SelectionError: an unknown reason. DataError: no case, or one of a role that must not be chosen on.
    """
    if unknown := sorted(set(cases.values()) - set(REASONS)):
        raise SelectionError(f"There is no reason {unknown[0]!r}.", f"Reasons are {', '.join(REASONS)}.")
    datasets.open_dataset(store, dataset).preserving(list(cases))
    project = datasets.get(store, dataset).project
    digest, rows = digest_of(list(cases)), sorted([int(id), reason] for id, reason in cases.items())
    with store.write() as db:
        before = fetch(db, select(must_keep).where(must_keep.c.dataset == dataset))
        number = max((row["number"] for row in before), default=0) + 1
        id, values = new_id(), {"project": project, "dataset": dataset, "number": number, "cases": rows}
        db.execute(insert(must_keep).values(id=id, digest=digest, made_by=store.who, created=time.time(), **values))
        store.record(db, f"saved {len(rows)} must-keep cases", project=project, subject=id, digest=digest)
        if job is not None:
            finish(store, db, job, {"must_keep": id})
        return of_row(fetch(db, select(must_keep).where(must_keep.c.id == id))[0])


def listing(store: Store, dataset: str) -> list[MustKeep]:
    """All states of a dataset's set, the newest first."""
    wanted = select(must_keep).where(must_keep.c.dataset == dataset).order_by(must_keep.c.number.desc())
    with store.read() as db:
        return [of_row(row) for row in fetch(db, wanted)]
