"""The job rows: a queue that any process may look at and none can take from twice.

A running job holds its slot ("machine/lane:device") until its process is gone; the column is UNIQUE, so a slot cannot
be given twice. Its worker gives signs of life; whether it lives is for its own machine to say. What a job *does* is the
business of `surgery.jobs`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from surgery.errors import Cancelled
from surgery.workspace import liveness
from surgery.workspace.catalogue import jobs, projects
from surgery.workspace.rows import Job, JobState, Lane
from surgery.workspace.store import Store, clean_name, fetch, find, moment, new_id

_FIELDS = (
    "id", "number", "project", "title", "kind", "lane", "state", "device", "pid", "limit", "reason", "result", "task",
    "who",
)  # fmt: skip


@dataclass(frozen=True)
class Worker:
    """The process of a job: its id, its start (`children.born`), its machine, and the file that it holds locked."""

    pid: int
    born: float
    host: str
    lock: Path | None

    @property
    def here(self) -> bool:
        """Whether it runs on this machine, so that it is ours to judge and to end."""
        return liveness.ours(self.host)


def worker_of(store: Store, row: Mapping[str, Any]) -> Worker:
    """The worker that a row names."""
    lock = store.home / "jobs" / row["id"] / row["lock"] if row["lock"] else None
    return Worker(row["pid"], row["pid_created"], row["host"] or "", lock)


def slot(lane: str, device: str) -> str:
    """The slot of a device of this machine."""
    return f"{liveness.kernel(liveness.here())}/{lane}:{device}"


def job_of(store: Store, row: Mapping[str, Any]) -> Job:
    """The public form of a catalogue row."""
    return Job(
        created=moment(row["created"]),
        started=_moment(row["started"]),
        ended=_moment(row["ended"]),
        heartbeat=_moment(row["heartbeat"]),
        elsewhere=not liveness.ours(row["host"] or ""),
        folder=store.home / "jobs" / row["id"],
        **{name: row[name] for name in _FIELDS},
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def add(
    store: Store, task: Mapping[str, Any], *, project: str, title: str, lane: Lane, device: str, limit: float
) -> Job:
    """Append a job to the queue."""
    id, title = new_id(), clean_name(title, "job")
    row = {"id": id, "project": project, "title": title, "kind": task["kind"], "lane": lane, "device": device}
    with store.write() as db:
        find(db, projects, project, "project")
        db.execute(insert(jobs).values(**row, limit=limit, created=time.time(), task=dict(task), who=store.who))
        store.record(db, f"queued {title!r}", project=project, subject=id)
        return job_of(store, find(db, jobs, id, "job"))


def get(store: Store, id: str) -> Job:
    """One job."""
    with store.read() as db:
        return job_of(store, find(db, jobs, id, "job"))


def listing(store: Store, project: str | None) -> list[Job]:
    """The jobs of a project, or all, newest first."""
    wanted = select(jobs).order_by(jobs.c.number.desc())
    if project is not None:
        wanted = wanted.where(jobs.c.project == project)
    with store.read() as db:
        return [job_of(store, row) for row in fetch(db, wanted)]


def holders(db: Connection) -> list[dict[str, Any]]:
    """The jobs that hold a slot: those that run, and those that were ended while their process still lives."""
    return fetch(db, select(jobs).where(jobs.c.slot.is_not(None)))


def waiting(db: Connection) -> list[dict[str, Any]]:
    """The queued jobs, first come first."""
    return fetch(db, select(jobs).where(jobs.c.state == "queued").order_by(jobs.c.number))


def claim(store: Store, db: Connection, row: Mapping[str, Any], device: str, launch: Callable[[], Worker]) -> None:
    """Give a queued job its slot and start its process inside the transaction `db`.

    launch: starts the process. When this process dies before the transaction is
    committed, the worker finds its job still queued and leaves without a trace.
    """
    mine = update(jobs).where(jobs.c.id == row["id"])
    now = time.time()
    held = {"slot": slot(row["lane"], device), "device": device}
    db.execute(mine.values(state="running", **held, started=now, heartbeat=now, elapsed=0.0))
    worker = launch()
    lock = worker.lock.name if worker.lock else None
    db.execute(mine.values(pid=worker.pid, pid_created=worker.born, host=worker.host, lock=lock))
    store.record(db, f"started {row['title']!r} on {device}", project=row["project"], subject=row["id"])


def enter(store: Store, id: str, pid: int) -> Job | None:
    """The job as its worker finds it; None when it was not given to the process `pid`."""
    with store.write() as db:  # exclusive: waits until whoever launched us has committed
        row = find(db, jobs, id, "job")
        mine = row["state"] == "running" and row["pid"] == pid
        return job_of(store, row) if mine else None


def finish(store: Store, db: Connection, id: str, result: Mapping[str, Any]) -> None:
    """Mark a job done in the transaction that publishes what it made.

    Raises:
        Cancelled: it was ended from outside meanwhile; the transaction must not be committed.
    """
    running = (jobs.c.id == id) & (jobs.c.state == "running")
    values = {"state": "done", "slot": None, "ended": time.time(), "result": dict(result)}
    if not db.execute(update(jobs).where(running).values(**values)).rowcount:
        raise Cancelled(f"Job {id} was ended before its result could be committed.")
    row = find(db, jobs, id, "job")
    store.record(db, f"finished {row['title']!r}", project=row["project"], subject=id)


def end(store: Store, db: Connection, id: str, state: JobState, reason: str, *, refused: bool = False) -> bool:
    """Mark a queued or running job failed or cancelled; False when it had ended already. Its slot stays held.

    refused: the same task would fail again.
    """
    active = (jobs.c.id == id) & jobs.c.state.in_(("queued", "running"))
    values = {"state": state, "ended": time.time(), "reason": reason} | (
        {"result": {"refused": True}} if refused else {}
    )
    if not db.execute(update(jobs).where(active).values(**values)).rowcount:
        return False
    row = find(db, jobs, id, "job")
    store.record(db, f"{state} {row['title']!r}", project=row["project"], subject=id, reason=reason)
    return True


def beat(store: Store, id: str, elapsed: float) -> bool:
    """Record that a job's worker lives, `elapsed` seconds after its start; whether the job is still to be done."""
    running = (jobs.c.id == id) & (jobs.c.state == "running")
    with store.write() as db:
        return bool(db.execute(update(jobs).where(running).values(heartbeat=time.time(), elapsed=elapsed)).rowcount)


def release(db: Connection, id: str) -> None:
    """Free the slot of a job whose process is gone."""
    db.execute(update(jobs).where(jobs.c.id == id).values(slot=None))
