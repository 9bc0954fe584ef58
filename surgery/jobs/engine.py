"""Submit, watch, cancel, retry: what a page or a command may do with jobs. No state is kept here: the catalogue
has it all, so any process may ask, and one that was restarted finds everything as it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from surgery.errors import JobError, NotFoundError, SurgeryError
from surgery.jobs.candidates import best
from surgery.jobs.devices import candidates, devices
from surgery.jobs.forms import MONTH
from surgery.jobs.kinds import kind_of
from surgery.jobs.local import LOCAL
from surgery.jobs.reports import with_progress
from surgery.jobs.turns import Engine, pump, require_disk, stop
from surgery.network import operator_files
from surgery.workspace import Workspace, queue
from surgery.workspace.rows import Job
from surgery.workspace.store import clean_name

Task = Mapping[str, Any]  # JSON: {"kind": "plan" | "scan" | …, and what that kind needs}


def submit(
    ws: Workspace, task: Task, *, project: str, title: str, limit: float | None = None, engine: Engine = LOCAL
) -> Job:
    """Check a task, queue it, and start it when its turn has come.

    limit: seconds it may run, by default the kind's own.

    Raises:
        JobError: unknown kind, no such device, a field out of bounds, or too little free disk.
        SurgeryError: the task names what does not exist, belongs to another project, lies in the trash or does not fit.
    """
    kind = kind_of(task)
    _require_project(ws, project)
    title = clean_name(title if isinstance(title, str) else "", "job")
    seconds = kind.limit if limit is None else _seconds(limit)
    ready = kind.prepare(ws, project, task)
    if source := operator_files.current():  # the job knows these constructors, whoever starts its worker
        ready["architectures"] = source
    require_disk(ws.home, kind.disk(ws, ready))
    device = kind.device(ready)
    candidates(device, devices(ws.home))
    job = queue.add(ws.store, ready, project=project, title=title, lane=kind.lane, device=device, limit=seconds)
    return status(ws, job.id, engine=engine)


def _require_project(ws: Workspace, project: str) -> None:
    """Refuse a project that no job may work in.

    Raises:
        NotFoundError: there is none, or it lies in the trash.
    """
    if not isinstance(project, str) or not project.isprintable():
        raise NotFoundError(f"There is no project {project!r} in this workspace.", "Choose a project from the list.")
    row = ws.project(project)
    if row.state != "ready":
        raise NotFoundError(f"The project {row.name!r} is in the trash.", "Restore it, or choose another.")


def _seconds(limit: float) -> float:
    """A time limit.

    Raises:
        JobError: it is no number of seconds from 1 to a month.
    """
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 1 <= limit <= MONTH:
        raise JobError(f"A job cannot be limited to {limit!r} seconds.", f"Give 1 to {MONTH:,.0f}.")
    return float(limit)


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
        JobError: it has not ended, or what its task holds was refused and is still the same.
    """
    job = queue.get(ws.store, job_id)
    if job.active:
        raise JobError(f"Job {job.title!r} is still {job.state}.", "Cancel it first.")
    if job.refused and not _changed(job):
        raise JobError(
            f"Job {job.title!r} would be refused again: {job.reason.splitlines()[0]}",
            "Correct that first, then start it anew.",
        )
    return submit(ws, job.task, project=job.project, title=job.title, limit=job.limit, engine=engine)


def _changed(job: Job) -> bool:
    """Whether the file that a job was about was written since the job ended."""
    try:
        written = Path(str(job.task.get("path", ""))).stat().st_mtime
    except OSError:
        return False
    return job.ended is not None and written > job.ended.timestamp()


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
            with suppress(SurgeryError):  # what it was made from is gone: the job is cancelled all the same
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
