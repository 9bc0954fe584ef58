"""One job, watched where it was started: stage, percent, time left, live curve, cancel; its end draws the page anew."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from surgery import charts, jobs
from surgery.jobs import Job
from surgery.ui import joblist, panels
from surgery.ui.messages import _
from surgery.workspace import Workspace

EVERY = 1.0  # seconds; twice as often costs 15 % of a core per viewer


def latest(ws: Workspace, project: str, task: Mapping[str, object]) -> Job | None:
    """The last job of a project whose task says all that `task` says, its kind included."""
    found = [job for job in jobs.jobs(ws, project) if task.items() <= {**job.task, "kind": job.kind}.items()]
    return max(found, key=lambda job: job.number, default=None)


def watch_latest(ws: Workspace, project: str, task: Mapping[str, object]) -> bool:
    """Draw the last such job in place if it is not done; whether there was one to draw."""
    job = latest(ws, project, task)
    if job is None or job.state == "done":
        return False
    watch(ws, job)
    return True


def watch(ws: Workspace, job: Job) -> None:
    """Draw the job in place, once a second while it waits or runs; what failed says why and can be tried again."""
    st.fragment(_live, run_every=EVERY if job.active else None)(ws, job)


def _live(ws: Workspace, job: Job) -> None:
    now = jobs.status(ws, job.id)
    if job.active and not now.active:
        st.rerun()
    with st.container(border=True, key=f"watch_{job.id}"), panels.panel():
        joblist.heading(now, "")
        if now.active:
            joblist.progress(now)
        curve(ws, now)
        _act(ws, now)


def curve(ws: Workspace, job: Job) -> None:
    """Draw the numbers that the job reported so far, when there are two or more."""
    points = pd.DataFrame(joblist.points(ws, job.id))
    dark = st.context.theme.type == "dark"
    losses = points[[name for name in points if name == "loss"]].dropna().reset_index(drop=True)
    if len(losses) > 1:
        figure = charts.loss_curve(losses, dark=dark)
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key=f"curve_{job.id}", alt=_("Loss over time"))
    named = [name for name in points if name != "loss" and "/" not in str(name)]  # with a slash: drawn by `live_bits`
    watched = points[named].dropna(how="all").reset_index(drop=True)
    if len(watched):
        title = _("Quality on old and new validation samples while training")
        figure = charts.loss_curve(100 * watched, title=title, unit="%", dark=dark)
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key=f"watched_{job.id}", alt=title)


def _act(ws: Workspace, job: Job) -> None:
    if job.active:
        joblist.cancel_button(ws, job)
        return
    if job.state == "failed":
        panels.show_failure(job.reason)
    if job.state != "done" and st.button(_("Try again"), icon=":material/replay:", key=f"again_{job.id}"):
        jobs.retry(ws, job.id)
        st.rerun()
