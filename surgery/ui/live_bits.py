"""A job that learns bits, as it goes: what the guard sees, where it went back, and the bits of every layer."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery import charts
from surgery.ui import format, frontier, joblist, progress
from surgery.ui.messages import _, plural
from surgery.workspace import Job, Workspace


def watch(ws: Workspace, job: Job) -> None:
    """Draw what the job has reported so far, again and again while it runs."""
    if job.task.get("plan", {}).get("operation") == "self_compress":
        st.fragment(_live, run_every=progress.EVERY if job.active else None)(ws, job)


def _live(ws: Workspace, job: Job) -> None:
    points = pd.DataFrame(joblist.points(ws, job.id))
    if "look/kept" not in points:
        return
    looks = points.dropna(subset=["look/kept"]).reset_index(drop=True)
    dark = st.context.theme.type == "dark"
    last = looks.iloc[-1]
    st.markdown(
        _("**{size}** now; what is guarded is at {kept}, the limit is {least}; {gone}, {back}.").format(
            size=format.size(last["look/bytes"]),
            kept=format.percent(last["look/kept"]),
            least=format.percent(last["look/least"]),
            gone=plural("{count} neuron without bits", "{count} neurons without bits", int(last.get("look/gone", 0))),
            back=plural("went back {count} time", "went back {count} times", int(looks["look/back"].sum())),
        )
    )
    left, right = st.columns(2, gap="medium")
    with left:
        title = _("What the guard sees, and where it went back")
        figure = charts.guarded(
            100 * looks["look/kept"],
            least=100 * float(last["look/least"]),
            back=looks["look/back"].astype(bool),
            title=title,
            dark=dark,
        )
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key=f"guard_{job.id}", alt=title)
    with right:
        title = _("Bits of every weight")
        bits = looks[[name for name in looks if str(name).startswith("bits/")]]
        bits = bits.rename(columns=lambda name: str(name).removeprefix("bits/").removesuffix(".weight"))
        figure = charts.over_time(bits, title=title, unit=_("bits"), dark=dark)
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key=f"bits_{job.id}", alt=title)
    frontier.take(ws, job)
