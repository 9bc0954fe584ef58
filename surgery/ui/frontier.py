"""The candidates of a compression: quality over size as they come, with the controls, and one click to take one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery import charts, jobs
from surgery.jobs import candidates
from surgery.ui import format, progress
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.workspace import Job, Workspace

OWN = "this plan"  # the run of the plan itself in a table of candidates; the others are controls
Row = dict[str, Any]


def watch(ws: Workspace, job: Job) -> None:
    """Draw what the job has offered so far, again and again while it runs."""
    if job.task.get("plan", {}).get("operation") in ("compress", "slim_mlp"):
        st.fragment(_live, run_every=progress.EVERY if job.active else None)(ws, job)


def _live(ws: Workspace, job: Job) -> None:
    rows = rows_of(ws, job)
    own = [row for row in rows if row["run"] == OWN]
    if not own:
        return
    st.plotly_chart(
        figure(rows, dark=st.context.theme.type == "dark"),
        theme=None,
        config=charts.CONFIG,
        key=f"frontier_{job.id}",
        alt=_("Quality of each candidate over its size"),
    )
    st.dataframe(table(rows), hide_index=True, height="content", key=f"candidates_{job.id}")
    take(ws, job)


def take(ws: Workspace, job: Job) -> None:
    """Once the job has ended, the way to make a version of any of its candidates."""
    takeable = [int(row["candidate"]) for row in candidates.listing(job)]
    if job.active or not takeable:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(_("Candidate"), takeable, index=len(takeable) - 1, key=f"candidate_{job.id}", width=140)
        if st.button(_("Make it a version"), icon=":material/new_label:", key=f"take_{job.id}"):
            taken = jobs.take(ws, job.id, int(chosen))
            st.query_params["job"] = taken.id
            st.rerun(scope="app")
        st.caption(_("Quality is of validation samples here; the version is measured on test samples."))


def rows_of(ws: Workspace, job: Job) -> list[Row]:
    """The whole table of a finished job, controls included; of another the candidates that it has offered."""
    version = (job.result or {}).get("version")
    if version:
        receipt = ws.receipt(version)
        return [dict(row) for row in receipt["tables"].get("candidates", ())] if receipt else []
    return candidates.listing(job)


def figure(rows: Sequence[Row], *, dark: bool) -> charts.Figure:
    """One line per run, from the input to the smallest."""
    points = pd.DataFrame(
        [{"line": _line(row), "left": 100 * row["left"], "value": 100 * row["quality"]} for row in rows]
    )
    return charts.quality_over_rate(
        points,
        title=_("Quality of each candidate on validation samples"),
        unit="%",
        full=100 * (rows[0]["quality"] - rows[0]["change"]),
        control="random neurons",
        note=_("validation samples"),
        across="left",
        dark=dark,
    )


def _line(row: Row) -> str:
    """The line of the figure that a row belongs to: its run; whole layers that went after a sweep have their own."""
    swept = "epsilon" in row and row["run"] == OWN and row["candidate"] and row["epsilon"] is None
    return _("without layers") if swept else str(row["run"])


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows in words."""
    return pd.DataFrame(
        {
            _("Run"): [plain(row["run"]) for row in rows],
            _("Candidate"): [int(row["candidate"]) for row in rows],
            _("What went"): [row["stage"] for row in rows],
            _("Parameters"): [f"{row['parameters']:,.0f}" for row in rows],
            _("left"): [format.percent(row["left"]) for row in rows],
            _("Multiply-adds"): [format.percent(row["macs_left"]) for row in rows],
            _("Quality"): [format.percent(row["quality"]) for row in rows],
            _("Change (pp)"): [format.signed(100 * row["change"]) for row in rows],
            _("Within limits"): ["" if row["run"] != OWN else _("yes") if row["accepted"] else _("no") for row in rows],
        }
    )
