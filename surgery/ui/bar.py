"""The context bar: project, version, dataset, device, running jobs and the link to this view, on every page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from surgery import jobs
from surgery.jobs.devices import devices
from surgery.ui import panels, shell, state
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Job, Project

_WATCHED = "surgery.watched"  # ids of jobs this tab has seen active, to greet their end
_ENDED = "surgery.ended"  # the ones to greet in the next run


def draw() -> None:
    """Draw the bar of the current view, and below it what is wrong with the link that led here."""
    view = state.current()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="context_bar"):
        _projects(view)
        if view.project is not None:
            _versions(view)
            _dataset(view)
            _device(view)
        st.space("stretch")
        _jobs_chip(view)
        if view.project is not None:
            _copy_link(view)
    if view.problem is not None:
        panels.show_error(view.problem)
    _quarantined(view)


def _quarantined(view: View) -> None:
    """Say on every page when what is on view was found damaged."""
    version, dataset = view.version, view.dataset
    names = [_("Version {number}").format(number=version.number)] if version and version.state == "damaged" else []
    names += [_("Dataset {name}").format(name=plain(dataset.name))] if dataset and dataset.state == "damaged" else []
    for name in names:
        st.error(
            _("**{name} is quarantined:** its files have changed since they were committed.").format(name=name)
            + "\n\n"
            + _(
                "Next step: use another one, or restore its folder from a backup and run `surgery doctor --repair`. "
                "The activity log on Versions names the files."
            ),
            icon=":material/gpp_bad:",
        )


def _projects(view: View) -> None:
    names = _told_apart(view.workspace.projects())
    if view.project is None:
        st.caption(_("No project yet"), width="content")
        return
    chosen = st.menu_button(
        plain(names[view.project.id]),
        list(names),
        format_func=lambda id: plain(names[id]),
        icon=":material/folder:",
        type="tertiary",
        help=_("Project: choose another"),
        key="bar_project",
    )
    if chosen and chosen != view.project.id:
        shell.look_at(project=chosen)


def _told_apart(projects: Sequence[Project]) -> dict[str, str]:
    """The name of every project by its id, numbered where an older one has the same: a menu wants each label once."""
    names: dict[str, str] = {}
    for project in sorted(projects, key=lambda project: project.created):
        name, number = project.name, 2
        while name in names.values():
            name, number = f"{project.name} ({number})", number + 1
        names[project.id] = name
    return {project.id: names[project.id] for project in projects}


def _versions(view: View) -> None:
    if view.project is None or view.version is None:
        st.caption(_("no model yet"), width="content")
        return
    current = view.project.current
    labels = {
        version.id: f"v{version.number} {version.name}"
        + (_(" · current") if version.id == current else "")
        + (_(" · quarantined") if version.state == "damaged" else "")
        for version in view.workspace.versions(view.project.id)
    }
    chosen = st.menu_button(
        plain(labels[view.version.id]),
        list(labels),
        format_func=lambda id: plain(labels[id]),
        icon=":material/deployed_code:",
        type="tertiary",
        help=_("Version on view: choose another"),
        key="bar_version",
    )
    if chosen and chosen != view.version.id:
        pinned = {} if chosen == current else {"version": chosen}
        shell.look_at(project=view.project.id, **pinned)


def _dataset(view: View) -> None:
    name = plain(view.dataset.name) if view.dataset else _("no dataset yet")
    st.caption(f":material/dataset: {name}", width="content")


def _device(view: View) -> None:
    best = devices(view.workspace.home)[0]
    st.caption(f":material/memory: {plain(best)}", width="content")


def _copy_link(view: View) -> None:
    with st.popover(_("Copy link"), icon=":material/link:", type="tertiary"):
        st.code(shell.link(view), language=None)
        st.caption(_("Opens this page on this project and version. The copy button is at the right of the address."))


def _jobs_chip(view: View) -> None:
    active = [job for job in jobs.jobs(view.workspace) if job.active]
    with st.container(width="content"):
        st.fragment(_chip, run_every=1 if active else None)(view)


def _chip(view: View) -> None:
    """Count running jobs once a second while there are any; greet those that have ended, then draw the page anew."""
    every = jobs.jobs(view.workspace)
    active = {job.id for job in every if job.active}
    watched: set[str] = st.session_state.get(_WATCHED, set())
    ended = [job for job in every if job.id in watched - active]
    st.session_state[_WATCHED] = active
    if ended:
        st.session_state[_ENDED] = ended
        st.rerun()
    for job in st.session_state.pop(_ENDED, []):
        _greet(job)
    label = _activity([job for job in every if job.active])
    st.page_link("pages/jobs.py", label=label, icon=":material/progress_activity:" if active else ":material/check:")


def _activity(active: Sequence[Job]) -> str:
    running = sum(job.state == "running" for job in active)
    words = plural("{count} job running", "{count} jobs running", running) if running else _("No jobs running")
    if waiting := len(active) - running:
        words += ", " + plural("{count} waiting", "{count} waiting", waiting)
    return words


def _greet(job: Job) -> None:
    if job.state == "done":
        st.toast(_("Finished: {title}").format(title=plain(job.title)), icon=":material/check_circle:")
    elif job.state == "failed":
        st.toast(
            _("Failed: {title}. {reason}").format(title=plain(job.title), reason=plain(job.reason)),
            icon=":material/error:",
        )
