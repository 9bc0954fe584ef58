"""What is running: the queue with stage, percent and time left, live curve and log; cancel and retry."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from surgery import jobs, standing
from surgery.errors import NotFoundError
from surgery.tell import tell
from surgery.ui import candidates, format, joblist, panels, progress, results, shell
from surgery.ui.messages import _
from surgery.workspace import Job

view = shell.page("jobs")
ws = view.workspace


def running() -> None:
    """Draw one card for each job that waits or runs."""
    active = [job for job in jobs.jobs(ws) if job.active]
    if not active:
        panels.empty(_("Nothing is running. Imports, scans and surgeries appear here."), icon="check_circle")
    for job in sorted(active, key=lambda job: (job.state != "running", job.number)):
        with st.container(border=True, key=f"card_{job.id}"), panels.panel():
            joblist.heading(job, ws.project(job.project).name)
            joblist.progress(job)
            if job.state == "running":
                progress.curve(ws, job)
                joblist.log(ws, job)
            joblist.cancel_button(ws, job)


def ended() -> None:
    """List what has ended, newest first; the row that the URL names opens below."""
    found = [job for job in jobs.jobs(ws) if not job.active]
    if not found:
        st.caption(_("No job has ended yet."))
        return
    ids = [job.id for job in found]
    named = st.query_params.get("job", "")
    event = st.dataframe(
        table(found),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={
            "selection": {"rows": [ids.index(named) if named in ids else 0], "columns": [], "cells": []}
        },
        height="content" if len(found) <= 8 else 300,
        key=f"ended_{ids[0]}",  # a new row on top would otherwise shift the selection
        alt=_("Jobs that have ended"),
    )
    job = found[event["selection"]["rows"][0]]
    st.query_params["job"] = job.id
    detail(job)


def table(found: Sequence[Job]) -> pd.DataFrame:
    """Return one row for each job."""
    names = {project.id: project.name for project in [*ws.projects(), *ws.projects(trashed=True)]}
    return pd.DataFrame(
        {
            _("Job"): [job.title for job in found],
            _("Project"): [names.get(job.project, "–") for job in found],
            _("End"): [joblist.said(job) for job in found],
            _("Why"): [job.reason for job in found],
            _("Device"): [job.device or "–" for job in found],
            _("Took"): [format.seconds(joblist.duration(job)) for job in found],
            _("Ended"): [format.ago(job.ended) for job in found],
        }
    )


def detail(job: Job) -> None:
    """Draw the end of one job: its reason, curve, log, and what can be done with it."""
    with st.container(border=True, key="job_detail"), panels.panel():
        joblist.heading(job, "")
        if job.state == "failed":
            panels.show_failure(job.reason)
        progress.curve(ws, job)
        joblist.log(ws, job)
        if (
            job.state in ("failed", "cancelled")
            and not job.refused
            and st.button(_("Retry"), icon=":material/replay:", type="primary")
        ):
            jobs.retry(ws, job.id)
            st.rerun()
        made = job.result.get("version")
        if job.state == "done" and made:
            told(made)
        if job.state == "done" and made and st.button(_("See before/after"), icon=":material/compare_arrows:"):
            shell.go("compare", project=job.project, version=made)
        shared = job.result.get("fleet")
        if job.state == "done" and shared and st.button(_("See the fleet"), icon=":material/hub:"):
            shell.go("similarity", project=job.project, look="fleets", fleet=shared)


def told(version: str) -> None:
    """Say what the version that a job made brought, where a surgery made it and it is still there."""
    try:
        made = ws.version(version)
        receipt = standing.receipt_of(ws, made)
    except NotFoundError:
        return
    if receipt is not None:
        results.sentences(tell(receipt))
    candidates.decide(ws, ws.project(made.project), made)


busy = any(job.active for job in jobs.jobs(ws))
st.fragment(running, run_every=1 if busy else None)()
st.markdown(f"##### {_('Ended')}")
with panels.panel():
    ended()
