"""What a page is looking at: the workspace, and the project, version and dataset that the URL names.

The URL is the view: `?project=…` always, `?version=…` only when it is not the current one, so that a page follows
an undo or a finished surgery. The session remembers the last project merely because the menu drops the query.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

import streamlit as st

from surgery.errors import NotFoundError
from surgery.ui.messages import _
from surgery.workspace import DatasetRow, Project, Version, Workspace

_PROJECT = "surgery.project"
LOG = "app.log"


@dataclass(frozen=True)
class View:
    """What the URL names, looked up; None for what does not exist yet."""

    workspace: Workspace
    project: Project | None
    version: Version | None
    dataset: DatasetRow | None
    problem: NotFoundError | None = None  # the URL names something that is not here

    @property
    def query(self) -> dict[str, str]:
        """The query that names this project, and this version if it is not the current one."""
        if self.project is None:
            return {}
        query = {"project": self.project.id}
        if self.version is not None and self.version.id != self.project.current:
            query["version"] = self.version.id
        return query

    @property
    def pinned(self) -> dict[str, str]:
        """The query that keeps naming this very version, for links that others open later."""
        return self.query | ({"version": self.version.id} if self.version else {})


@st.cache_resource(show_spinner=False)
def _open(home: str) -> Workspace:
    ws = Workspace(Path(home) if home else None, checks=False)
    _log_to(ws.home / LOG)
    return ws


def _log_to(path: Path) -> None:
    """Keep what went wrong on pages in a file of at most 2 MB, with its tracebacks."""
    logger = logging.getLogger("surgery")
    for old in [handler for handler in logger.handlers if isinstance(handler, RotatingFileHandler)]:
        logger.removeHandler(old)
        old.close()
    file = RotatingFileHandler(path, maxBytes=1_000_000, backupCount=1, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(file)


def workspace() -> Workspace:
    """Return the workspace of this app, opened once."""
    return _open(os.environ.get("SURGERY_HOME", ""))


def current() -> View:
    """Look up what the URL names, and write the project back into the URL."""
    ws = workspace()
    query = st.query_params.to_dict()
    project, problem = _project(ws, query)
    if project is None:
        return View(ws, None, None, None, problem)
    st.session_state[_PROJECT] = project.id
    st.query_params["project"] = project.id
    version, unknown = _version(ws, project, query.get("version"))
    dataset = ws.dataset_row(project.dataset) if project.dataset else None
    return View(ws, project, version, dataset, problem or unknown)


def _project(ws: Workspace, query: Mapping[str, str]) -> tuple[Project | None, NotFoundError | None]:
    projects = {project.id: project for project in ws.projects()}
    problem = None
    for wanted in (query.get("project"), st.session_state.get(_PROJECT)):
        if wanted in projects:
            return projects[wanted], problem
        if wanted and wanted == query.get("project"):
            problem = NotFoundError(
                _("The link names project {id!r}, which is not in this workspace.").format(id=wanted),
                _("Choose a project on Home, or restore it from the trash there."),
            )
            del st.query_params["project"]
    return next(iter(projects.values()), None), problem


def _version(ws: Workspace, project: Project, wanted: str | None) -> tuple[Version | None, NotFoundError | None]:
    versions = {version.id: version for version in ws.versions(project.id)}
    current = versions.get(project.current or "")
    if not wanted or wanted in versions:
        return versions.get(wanted or "", current), None
    del st.query_params["version"]
    return current, NotFoundError(
        _("The link names version {id!r}, which is not in project {name!r}.").format(id=wanted, name=project.name),
        _("The current version is shown instead; a version in the trash can be restored on the page Versions."),
    )
