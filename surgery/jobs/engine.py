"""Submit, watch, cancel, retry: what a page or a command may do with jobs. No state is kept here: the catalogue
has it all, so any process may ask, and one that was restarted finds everything as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.errors import JobError
from surgery.jobs.candidates import best
from surgery.jobs.devices import candidates, devices
from surgery.jobs.kinds import kind_of
from surgery.jobs.local import LOCAL
from surgery.jobs.reports import with_progress
from surgery.jobs.turns import Engine, pump, require_disk, stop
from surgery.workspace import Workspace, queue
from surgery.workspace.rows import Job
from surgery.workspace.store import clean_name

Task = Mapping[str, Any]  # JSON: {"kind": "plan" | "scan" | …, and what that kind needs}


def submit(
    ws: Workspace, task: Task, *, project: str, title: str, limit: float | None = None, engine: Engine = LOCAL
) -> Job:
    """Queue a task and start it when its turn has come.

    limit: seconds it may run, by default the kind's own.

    Raises:
        JobError: unknown kind, no such device, or too little free disk.
        NotFoundError, PlanError: the task names what does not exist.
    """
    kind = kind_of(task)
    ready = kind.prepare(ws, project, task)
    require_disk(ws.home, kind.disk(ws, ready))
    device = kind.device(ready)
    candidates(device, devices(ws.home))
    title = clean_name(title, "job")
    job = queue.add(
        ws.store, ready, project=project, title=title, lane=kind.lane, device=device, limit=limit or kind.limit
    )
    return status(ws, job.id, engine=engine)


def status(ws: Workspace, job_id: str, *, engine: Engine = LOCAL) -> Job:
    """The job as it is now, with its progress."""
    pump(ws, engine=engine)
    return with_progress(queue.get(ws.store, job_id))


def jobs(ws: Workspace, project: str | None = None, *, engine: Engine = LOCAL) -> list[Job]:
    """The jobs of a project, or all, newest first, with their progress."""
    pump(ws, engine=engine)
    return [with_progress(job) for job in queue.listing(ws.store, project)]


def retry(ws: Workspace, job_id: str, *, engine: Engine = LOCAL) -> Job:
    """Queue an ended job's task once more, as a new job.

    Raises:
        JobError: it has not ended.
    """
    job = queue.get(ws.store, job_id)
    if job.active:
        raise JobError(f"Job {job.title!r} is still {job.state}.", "Cancel it first.")
    return submit(ws, job.task, project=job.project, title=job.title, limit=job.limit, engine=engine)


def cancel(ws: Workspace, job_id: str, *, engine: Engine = LOCAL) -> Job:
    """Stop a job. The best candidate that it had is kept as an unfinished version, which does not become current;
    else what it did leaves no trace. One that has ended stays as it is.
    """
    with ws.store.write() as db:
        cancelled = queue.end(ws.store, db, job_id, "cancelled", f"Cancelled by {ws.store.who}.")
    if cancelled:
        stop(ws, job_id, engine)
        job = queue.get(ws.store, job_id)
        if (number := best(job)) is not None:
            take(ws, job_id, number, name=f"{job.title[:100]} (unfinished)", current=False, engine=engine)
    return status(ws, job_id, engine=engine)


def take(
    ws: Workspace, job_id: str, candidate: int, *, name: str = "", current: bool = True, engine: Engine = LOCAL
) -> Job:
    """Make a version of one of a job's candidates, as a new job.

    Raises:
        NotFoundError: there is no such job or candidate.
    """
    job = queue.get(ws.store, job_id)
    title = name or f"{job.title[:100]}: candidate {candidate}"
    task = {"kind": "take", "job": job_id, "candidate": candidate, "current": current}
    return submit(ws, task, project=job.project, title=title, engine=engine)
