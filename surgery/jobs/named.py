"""What a task names, looked up: it must be there, of the task's own project, and not in the trash."""

from __future__ import annotations

from pathlib import Path

from surgery.errors import DamagedError, NotFoundError
from surgery.network.facts import Facts
from surgery.workspace import Workspace, queue
from surgery.workspace.rows import DatasetRow, Fleet, Job, Version


def version_of(ws: Workspace, project: str, id: str) -> Version:
    """A version that a job of the project may work on.

    Raises:
        NotFoundError: it does not exist, is another project's, or lies in the trash. DamagedError: it is quarantined.
    """
    row = ws.version(id)
    if row.project != project:
        raise NotFoundError(
            f"Version {row.number} {row.name!r} belongs to another project.",
            "Choose a version of this project, or import that model into it.",
        )
    _require_ready(f"Version {row.number} {row.name!r}", row.state)
    return row


def dataset_of(ws: Workspace, project: str, id: str) -> DatasetRow:
    """A dataset that a job of the project may read.

    Raises:
        NotFoundError: it does not exist, or is another project's. DamagedError: it is quarantined.
    """
    row = ws.dataset_row(id)
    if row.project != project:
        raise NotFoundError(
            f"The dataset {row.name!r} belongs to another project.",
            "Choose a dataset of this project, or import it into this one.",
        )
    _require_ready(f"The dataset {row.name!r}", row.state)
    return row


def fleet_of(ws: Workspace, project: str, id: str) -> Fleet:
    """A fleet that a job of the project may work on.

    Raises:
        NotFoundError: it does not exist, is another project's, or lies in the trash. DamagedError: it is quarantined.
    """
    row = ws.fleet(id)
    if row.project != project:
        raise NotFoundError(f"Fleet {row.number} {row.name!r} belongs to another project.", "Choose one of this one.")
    _require_ready(f"Fleet {row.number} {row.name!r}", row.state)
    return row


def job_of(ws: Workspace, project: str, id: str) -> Job:
    """A job of the project, as the source of another.

    Raises:
        NotFoundError: it does not exist, or is another project's.
    """
    row = queue.get(ws.store, id)
    if row.project != project:
        raise NotFoundError(f"Job {row.title!r} belongs to another project.", "Choose a job of this project.")
    return row


def _require_ready(name: str, state: str) -> None:
    """Refuse what lies in the trash or is quarantined.

    Raises:
        NotFoundError: it lies in the trash. DamagedError: its files have changed.
    """
    if state == "trash":
        raise NotFoundError(f"{name} is in the trash.", "Restore it, or choose another.")
    if state == "damaged":
        raise DamagedError(
            f"{name} is quarantined: its files have changed since they were committed.",
            "Choose another, or restore its folder from a backup and run `surgery doctor --repair`.",
        )


def facts_of(ws: Workspace, version: Version) -> Facts:
    """What the description of a version tells.

    Raises:
        ModelFileError: it is missing or damaged.
    """
    return Facts.of(ws.inspect(version.id), f"version {version.number} {version.name!r}")


def path_of(text: str) -> Path:
    """A file or folder to import.

    Raises:
        NotFoundError: it is not there.
    """
    path = Path(text)
    try:
        found = path.exists()
    except (OSError, ValueError):  # longer than the system allows, or no path at all
        found = False
    if not found:
        raise NotFoundError(f"{text[:200]!r} does not exist.", "Check the path, or upload the file again.")
    return path
