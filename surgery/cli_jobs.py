"""What the commands of `surgery.cli` share: the workspace, its projects, and jobs that are waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import JobError, SurgeryError

if TYPE_CHECKING:
    from surgery.workspace import Workspace
    from surgery.workspace.rows import Job

POLL = 0.2  # seconds between two looks at a job


def workspace() -> Workspace:
    """The workspace of SURGERY_HOME."""
    from surgery.workspace import Workspace

    return Workspace()


def project_of(ws: Workspace, name: str | None, *, default: str = "") -> str:
    """The id of a project by id or name; a new one when `default` gives it a name."""
    projects = ws.projects()
    for project in projects:
        if name in (project.id, project.name):
            return project.id
    if name or default:
        return ws.create_project(name or default).id if default else _no_project(name or "")
    return projects[0].id if projects else _no_project("")


def _no_project(name: str) -> str:
    raise SurgeryError(f"There is no project {name!r}.", "Run `surgery versions` to see all.")


def wait(ws: Workspace, task: Mapping[str, Any], *, project: str, title: str) -> Job:
    """Submit a task and follow it to its end. Ctrl-C leaves it running.

    Raises:
        JobError: it failed or was cancelled, with its reason.
    """
    from surgery import jobs

    job = jobs.submit(ws, task, project=project, title=title)
    shown = ""
    try:
        while job.active:
            time.sleep(POLL)
            job = jobs.status(ws, job.id)
            line = f"{job.state}: {job.stage or ''} {'' if job.percent is None else f'{job.percent:.0f} %'}"
            if line != shown and sys.stderr.isatty():
                print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            shown = line
    except KeyboardInterrupt:
        raise JobError(f"Job {job.id} goes on.", f"Cancel it with `surgery jobs --cancel {job.id}`.") from None
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if job.state != "done":
        raise JobError(f"Job {job.id} {job.state}: {job.reason}", f"Try again with `surgery jobs --retry {job.id}`.")
    return job


def existing(path: Path) -> Path:
    """The absolute path of something that is there.

    Raises:
        SurgeryError: nothing is.
    """
    if not path.exists():
        raise SurgeryError(f"{path} does not exist.", "Check the path.")
    return path.resolve()
