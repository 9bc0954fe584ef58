"""Whose turn it is: bury dead workers, end those that are due, start what can start.

Any process may `pump`: pages do by asking for a status, a worker does at its end. Each start is one exclusive
transaction, so two pumps never start one job twice, nor two jobs in one slot.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection

from surgery.errors import JobError, SurgeryError
from surgery.jobs.devices import candidates, devices
from surgery.jobs.kinds import KINDS
from surgery.jobs.local import LOCAL
from surgery.jobs.obituary import cause_of_death, explained, overdue
from surgery.workspace import Workspace, queue
from surgery.workspace.queue import Worker

RESERVE = 200 * 2**20  # bytes of the disk that no job may count on
_LATE = 10.0  # seconds that a worker has beyond its limit to end itself
_DYING = 3.0  # seconds that whoever ended a job has to see its process gone

Row = Mapping[str, Any]


class Engine(Protocol):
    """Where workers run."""

    def launch(self, home: Path, job_id: str) -> Worker:
        """Start the worker of a job."""
        ...

    def alive(self, worker: Worker) -> bool:
        """Whether it still runs; asked for workers of this machine alone."""
        ...

    def stop(self, worker: Worker) -> bool:
        """End it; whether it is gone."""
        ...

    def reap(self) -> None:
        """Take note of workers that ended."""
        ...


def pump(ws: Workspace, *, engine: Engine = LOCAL) -> None:
    """Do whatever is due. With nothing to do it only reads."""
    engine.reap()
    with ws.store.read() as db:
        held, waiting = queue.holders(db), queue.waiting(db)
    for row in held:
        _attend(ws, row, engine)
    if waiting:
        present = devices(ws.home)
        with ws.store.write() as db:
            busy = {row["slot"] for row in queue.holders(db)}
            for row in queue.waiting(db):
                _start(ws, db, row, busy, present, engine)


def stop(ws: Workspace, job_id: str, engine: Engine) -> None:
    """End the process of a job whose row says that it has ended, then free its slot."""
    with ws.store.read() as db:
        held = [row for row in queue.holders(db) if row["id"] == job_id]
    for row in held:
        worker = queue.worker_of(ws.store, row)
        if worker.here and engine.stop(worker):
            with ws.store.write() as db:
                queue.release(db, job_id)


def require_disk(home: Path, needed: int) -> None:
    """Refuse when the workspace's disk has too little room.

    Raises:
        JobError: names what is needed and what is free, in MB.
    """
    free = shutil.disk_usage(home).free
    if free < needed + RESERVE:
        raise JobError(
            f"The job needs {(needed + RESERVE) / 1e6:,.0f} MB of free disk, {free / 1e6:,.0f} MB are free.",
            "Free some space (empty the trash, delete versions) and try again.",
        )


def _attend(ws: Workspace, row: Row, engine: Engine) -> None:
    """Look after a job that holds a slot of this machine. No rule depends on the clock: it may be set."""
    worker = queue.worker_of(ws.store, row)
    if not worker.here:
        return
    if row["state"] != "running":
        if abs(time.time() - row["ended"]) > _DYING:  # whoever ended it was interrupted
            stop(ws, row["id"], engine)
    elif not engine.alive(worker):
        _bury(ws, row, cause_of_death(ws.home / "jobs" / row["id"], row["limit"]))
    elif (row["elapsed"] or 0.0) > row["limit"] + _LATE:
        with ws.store.write() as db:
            queue.end(ws.store, db, row["id"], "failed", overdue(row["limit"]))
        stop(ws, row["id"], engine)


def _bury(ws: Workspace, row: Row, reason: str) -> None:
    with ws.store.write() as db:
        queue.end(ws.store, db, row["id"], "failed", reason)  # unless it finished just before it went
        queue.release(db, row["id"])


def _start(ws: Workspace, db: Connection, row: Row, busy: set[str], present: Sequence[str], engine: Engine) -> None:
    """Start a queued job if a slot that suits it is free; take the slot from `busy`."""
    try:
        fitting = [name for name in candidates(row["device"], present) if queue.slot(row["lane"], name) not in busy]
        if fitting:
            require_disk(ws.home, KINDS[row["kind"]].disk(ws, row["task"]))
            queue.claim(ws.store, db, row, fitting[0], lambda: engine.launch(ws.home, row["id"]))
            busy.add(queue.slot(row["lane"], fitting[0]))
    except (SurgeryError, OSError) as error:
        said = explained(error, row["device"], "starting it")
        queue.end(ws.store, db, row["id"], "failed", f"It could not be started: {said}")
        queue.release(db, row["id"])
