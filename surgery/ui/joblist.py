"""How a job looks wherever one is shown: state, stage, percent, time left, log, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import streamlit as st

from surgery import jobs
from surgery.ui import format
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.workspace import Job, Workspace

Colour = Literal["gray", "blue", "green", "red"]
STATES: Mapping[str, tuple[str, str, Colour]] = {  # state -> words, icon, colour
    "queued": (_("waiting"), "schedule", "gray"),
    "running": (_("running"), "progress_activity", "blue"),
    "done": (_("done"), "check", "green"),
    "failed": (_("failed"), "error", "red"),
    "cancelled": (_("cancelled"), "cancel", "gray"),
}
_TAIL = 12  # lines of the log


def said(job: Job) -> str:
    """The state in words; of a result that waits for a decision also that."""
    words = STATES[job.state][0]
    return _("{state} · candidate").format(state=words) if job.result.get("candidate") else words


def heading(job: Job, project: str) -> None:
    """Name the job, its state, its project and its device in one line."""
    words, icon, colour = STATES[job.state]
    device = job.device or _("any device")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{plain(job.title)}**", width="content")
        st.badge(words, icon=f":material/{icon}:", color=colour)
        if job.state == "done" and job.result.get("candidate"):
            st.badge(_("candidate"), icon=":material/pending:", color="orange")
        st.caption(" · ".join(plain(part) for part in (project, device) if part), width="content")


def progress(job: Job) -> None:
    """Show stage, percent and time left; a waiting job says what it waits for."""
    if job.state == "queued":
        st.caption(_("Waits for a free place on {device}.").format(device=job.device or _("a device")))
        return
    stage = job.stage or _("starting")
    if job.percent is None:
        text = stage
    elif job.eta is None:
        text = f"{stage}: {job.percent:.0f} %"
    else:
        text = _("{stage}: {percent} %, about {left} left of this stage").format(
            stage=stage, percent=f"{job.percent:.0f}", left=format.seconds(job.eta)
        )
    st.progress(min(1.0, (job.percent or 0) / 100), text=plain(text))
    if job.elsewhere and job.heartbeat is not None:
        st.caption(
            _("Runs on another machine, which last reported {ago}. If that machine is gone, cancel the job.").format(
                ago=format.ago(job.heartbeat)
            )
        )


def cancel_button(ws: Workspace, job: Job) -> None:
    """Offer to stop the job; its best candidate becomes an unfinished version, anything else is not kept."""
    hint = _("The best candidate so far is kept as an unfinished version; nothing half done is.")
    if st.button(_("Cancel"), icon=":material/stop:", key=f"cancel_{job.id}", help=hint):
        jobs.cancel(ws, job.id)
        st.rerun()


def log(ws: Workspace, job: Job) -> None:
    """Show the last lines that the worker wrote."""
    lines = jobs.log_tail(ws, job.id, _TAIL)
    if lines:
        with st.expander(_("Log"), icon=":material/notes:", expanded=job.state == "failed"):
            st.code(lines, language=None)


def points(ws: Workspace, job_id: str) -> list[dict[str, Any]]:
    """Return the numbers that the job has reported, reading on from where the last call stopped."""
    key = f"surgery.points.{job_id}"
    seen, offset = st.session_state.get(key, ([], 0))
    events, offset = jobs.events(ws, job_id, offset)
    seen = [*seen, *(event["point"] for event in events if "point" in event)]
    st.session_state[key] = (seen, offset)
    return seen


def duration(job: Job) -> float | None:
    """Return the seconds from start to end, or to now; None before the start."""
    if job.started is None:
        return None
    return ((job.ended or datetime.now(UTC)) - job.started).total_seconds()
