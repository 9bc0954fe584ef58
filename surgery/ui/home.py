"""What the page Home does to projects: open a sample, say how far one has come, rename, delete, restore."""

from __future__ import annotations

import logging
from pathlib import Path
from zipfile import BadZipFile

import streamlit as st

import sample_models
from surgery import jobs
from surgery.errors import SurgeryError, WorkspaceError
from surgery.standing import said
from surgery.ui import candidates, coverage, panels
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.workspace import Project, Workspace


def is_new(ws: Workspace) -> bool:
    """Say whether nothing has ever happened in this workspace."""
    return not ws.projects() and not ws.events(None, 1)


def set_up(ws: Workspace) -> None:
    """Put the finished sample into a new workspace, and draw the page anew with it.

    Raises:
        WorkspaceError: it could not be installed.
    """
    if not is_new(ws):
        return
    with st.spinner(_("Installing the sample project…")):
        problem = _install(str(ws.home))
    if not problem:
        st.rerun()
    raise WorkspaceError(
        _("The finished sample could not be installed: {problem}").format(problem=problem),
        _("Open a sample below, or bring a model."),
    )


@st.cache_resource(show_spinner=False)
def _install(home: str) -> str:
    """Unpack it, once per app; what is wrong, "" when nothing is."""
    ws = Workspace(Path(home), checks=False)
    try:
        if is_new(ws):  # another app may have been quicker
            sample_models.open_finished(ws)
    except (SurgeryError, OSError, ValueError, KeyError, BadZipFile) as error:  # files of ours that are damaged, say
        logging.getLogger(__name__).exception("The finished sample could not be installed.")
        return str(error)
    return ""


def line_of(ws: Workspace, project: Project) -> str:
    """Where a project stands: its current version against its original, or how far one without a result has come.

    Results that wait for a decision are counted.
    """
    found = ws.versions(project.id)
    line = said(ws, project) if project.current and len(found) > 1 else state_of(ws, project)
    waiting = sum(bool(version.candidate) for version in found)
    if not waiting:
        return line
    return f"{line} · {plural('{count} candidate to decide', '{count} candidates to decide', waiting)}"


def state_of(ws: Workspace, project: Project) -> str:
    """Say in words how far a project without a result has come."""
    if project.current is None:
        return _("No model yet.") if project.dataset is None else _("Dataset imported, no model yet.")
    imported = (
        _("Model imported, no dataset yet.")
        if project.dataset is None
        else _("Model and dataset are in; nothing was changed yet.")
    )
    return f"{imported} {_mostly_whole(ws, project.current)}".strip()


def _mostly_whole(ws: Workspace, version: str) -> str:
    """A sentence about a network of which surgery reaches less than half; else ""."""
    try:
        found = ws.inspect(version)
    except SurgeryError:  # damaged: the pages that open it say so
        return ""
    known = coverage.share(found)
    return coverage.sentence(found) if known is not None and known < 0.5 else ""


def open_sample(ws: Workspace, name: str, title: str) -> str:
    """Make a project for a sample and let a job fill it; return the project's id."""
    project = ws.create_project(title)
    title = _("Open the sample {title}").format(title=title)
    jobs.submit(ws, {"kind": "open_sample", "sample": name}, project=project.id, title=title)
    return project.id


def project_menu(ws: Workspace, project: Project) -> None:
    """Offer to rename or delete the project."""
    with (
        st.popover(
            "",
            icon=":material/more_horiz:",
            type="tertiary",
            help=_("Rename, tolerance, delete"),
            key=f"menu_{project.id}",
        ),
        panels.panel(),
    ):
        with st.form(f"rename_{project.id}", border=False):
            name = st.text_input(_("Name"), value=project.name, max_chars=120)
            if st.form_submit_button(_("Save name"), type="primary"):
                ws.rename_project(project.id, name)
                st.rerun()
        candidates.tolerance(ws, project)
        if st.button(_("Move to trash"), icon=":material/delete:", key=f"trash_{project.id}"):
            ws.trash_project(project.id)
            st.toast(_("{name} is in the trash.").format(name=plain(project.name)), icon=":material/delete:")
            st.rerun()


def empty_trash_button(ws: Workspace, project: str | None = None) -> None:
    """Free the space for good, after a second question; of one project, or everywhere."""
    with st.popover(_("Empty trash"), icon=":material/delete_forever:"):
        everywhere = _("All projects and versions in the trash are erased. This cannot be undone.")
        here = _("This project's versions in the trash are erased. This cannot be undone.")
        st.markdown(everywhere if project is None else here)
        if st.button(_("Erase for good"), type="primary"):
            ws.empty_trash(project)
            st.rerun()
