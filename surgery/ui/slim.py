"""What slimming will do: the curve of what each ε leaves and what that costs before any tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from surgery import charts
from surgery.ui import format
from surgery.ui.messages import _
from surgery.ui.panels import plain

Answer = Mapping[str, Any]


def show(answer: Answer) -> None:
    """Draw the preview."""
    rows = answer["slims"]
    st.markdown(f"#### {sentence(answer)}")
    st.markdown(
        _(
            "Right after pruning, before any tuning. The job tunes each for {epochs} epochs and takes the smallest "
            "that loses at most {tolerance} pp on validation samples."
        ).format(epochs=f"{answer['epochs']:g}", tolerance=f"{answer['tolerance']:g}")
    )
    if answer["stops"]:
        st.caption(plain(answer["stops"]))
    points = pd.DataFrame(
        [{"line": _("right after pruning"), "left": 100 * row["left"], "value": 100 * row["quality"]} for row in rows]
    )
    title = _("Quality over size, one point for each ε")
    if len(points) > 1:
        figure = charts.quality_over_rate(
            points,
            title=title,
            unit="%",
            full=100 * answer["quality"],
            control="",
            note=_("{n} {split} samples").format(n=f"{answer['n']:,}", split=answer["split"]),
            across="left",
            dark=st.context.theme.type == "dark",
        )
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="slim_curve", alt=title)
    st.dataframe(table(answer), hide_index=True, height="content", key="slim_table")
    st.caption(_("Measured on {n} {split} samples.").format(n=f"{answer['n']:,}", split=answer["split"]))


def table(answer: Answer) -> pd.DataFrame:
    """The rows in words."""
    rows = answer["slims"]
    return pd.DataFrame(
        {
            _("ε"): [f"{row['epsilon']:g}" for row in rows],
            _("Units that stay"): [f"{row['units']:,} / {answer['of']:,}" for row in rows],
            _("Parameters left"): [format.percent(row["left"]) for row in rows],
            _("Quality before tuning"): [format.percent(row["quality"]) for row in rows],
            _("Change (pp)"): [format.signed(100 * (row["quality"] - answer["quality"])) for row in rows],
        }
    )


def sentence(answer: Answer) -> str:
    """`From 91 % of the parameters at ε = 0.5 down to 2 % at ε = 1.3`."""
    first, last = answer["slims"][0], answer["slims"][-1]
    if len(answer["slims"]) == 1:
        return _("{left} of the parameters stay at ε = {epsilon}").format(
            left=format.percent(first["left"]), epsilon=f"{first['epsilon']:g}"
        )
    return _("From {most} of the parameters at ε = {low} down to {least} at ε = {high}").format(
        most=format.percent(first["left"]),
        low=f"{first['epsilon']:g}",
        least=format.percent(last["left"]),
        high=f"{last['epsilon']:g}",
    )


def action(answer: Answer) -> str:
    """What the button says."""
    if len(answer["slims"]) == 1:
        return _("Slim at ε = {epsilon}").format(epsilon=f"{answer['slims'][0]['epsilon']:g}")
    return _("Slim at the best of {count} tolerances").format(count=len(answer["slims"]))
