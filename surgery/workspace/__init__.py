"""Projects, immutable versions, datasets, selections, jobs' rows and the audit log, on disk."""

from surgery.workspace.rows import DatasetRow, Event, Job, MustKeep, Project, Selection, Version
from surgery.workspace.workspace import Workspace

__all__ = ["DatasetRow", "Event", "Job", "MustKeep", "Project", "Selection", "Version", "Workspace"]
