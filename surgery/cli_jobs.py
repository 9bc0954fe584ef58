"""What the commands of `surgery.cli` share: the workspace, its projects, and jobs that are waited for."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def project_to_fill(ws: Workspace, name: str | None, stem: str) -> Iterator[str]:
    """The id of the project that an import goes into; one that was made for it goes when the import fails.

    name: id or name; a new project when there is none such. stem: what a new one without a name is called.
    """
    known = {project.id for project in ws.projects()}
    project = project_of(ws, name, default=name or stem)
    try:
        yield project
    except SurgeryError as error:
        removed = project not in known and ws.discard_empty_project(project)
        if removed and isinstance(error, FailedJobError):  # the job went with the project
            raise JobError(error.job.reason) from error
        raise


class FailedJobError(JobError):
    """A job that was waited for ended without a result."""

    def __init__(self, job: Job) -> None:
        again = "" if job.refused else f"Try again with `surgery jobs --retry {job.id}`."
        super().__init__(f"Job {job.id} {job.state}: {job.reason}", again)
        self.job = job


def _no_project(name: str) -> str:
    raise SurgeryError(f"There is no project {name!r}.", "Run `surgery versions` to see all.")


def wait(ws: Workspace, task: Mapping[str, Any], *, project: str, title: str) -> Job:
    """Submit a task and follow it to its end. Ctrl-C leaves it running.

    Raises:
        JobError: it failed or was cancelled, with its reason; or it goes on.
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
        raise FailedJobError(job)
    return job


def json_object(text: str) -> dict[str, Any]:
    """An option's JSON object, for `argparse`.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no JSON object; write for instance {{"num_classes": 10}}')
    return found


def line_of(job: Job) -> str:
    """What `surgery jobs` prints of a job: one line, whatever its reason holds."""
    share = "" if job.percent is None else f"{job.percent:.0f}%"
    said = " ".join((job.reason.partition("\n\n")[0] or job.stage or "").split())
    return f"{job.id}  {job.state:<9} {share:>5}  {' '.join(job.title.split())}  {said}".rstrip()


def existing(path: Path) -> Path:
    """The absolute path of something that is there.

    Raises:
        SurgeryError: nothing is.
    """
    if not path.exists():
        raise SurgeryError(f"{path} does not exist.", "Check the path.")
    return path.resolve()
