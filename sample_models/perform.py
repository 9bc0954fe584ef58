"""Do the work of a job at once, in this process, with the row, the log and the result that a worker leaves.

What ships is made by the jobs that a user would start, so that it shows what a user would see.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from surgery.context import Context
from surgery.jobs.kinds import KINDS
from surgery.jobs.reports import EVENTS
from surgery.workspace import Job, Workspace, liveness, queue
from surgery.workspace.catalogue import jobs
from surgery.workspace.store import fetch


def perform(
    ws: Workspace, project: str, title: str, task: Mapping[str, Any], ctx: Context, *, follow: bool = True
) -> Job:
    """Queue a job, work through it and what follows on it; the job as it ended.

    Raises:
        SurgeryError: the task cannot be done.
        Cancelled: `ctx` was cancelled.
    """
    kind = KINDS[task["kind"]]
    ready = kind.prepare(ws, project, task)
    job = queue.add(ws.store, ready, project=project, title=title, lane=kind.lane, device="cpu", limit=kind.limit)
    here = queue.Worker(os.getpid(), 0.0, liveness.here(), None)
    with ws.store.write() as db:
        (row,) = fetch(db, select(jobs).where(jobs.c.id == job.id))
        queue.claim(ws.store, db, row, "cpu", lambda: here)
    job.folder.mkdir()
    with (job.folder / EVENTS).open("w", encoding="utf-8") as events:

        def report(event: Mapping[str, object]) -> None:
            events.write(json.dumps(event, default=float) + "\n")
            ctx.report(event)

        result = kind.work(ws, queue.get(ws.store, job.id), replace(ctx, report=report))
    if result is not None:
        with ws.store.write() as db:
            queue.finish(ws.store, db, job.id, result)
    if kind.then and follow:
        perform(ws, project, f"{title}: {kind.then}", {**task, "kind": kind.then}, ctx)
    return queue.get(ws.store, job.id)
