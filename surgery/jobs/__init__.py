"""Background work: one detached process per job, three lanes, first in first out per device.

job = jobs.submit(ws, {"kind": "plan", "plan": plan.model_dump(mode="json")}, project=id, title="Prune 61 neurons")
jobs.status(ws, job.id).percent
"""

from surgery.jobs.engine import Task, cancel, jobs, retry, status, submit, take
from surgery.jobs.reports import events, log_tail
from surgery.jobs.turns import pump
from surgery.workspace.rows import Job

__all__ = ["Job", "Task", "cancel", "events", "jobs", "log_tail", "pump", "retry", "status", "submit", "take"]
