"""Curves over the steps of a computation."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from surgery.charts.figure import Figure, axis, base, plain
from surgery.charts.palette import OKABE_ITO, ink


def loss_curve(
    points: pd.DataFrame,
    *,
    title: str = "Loss while tuning",
    unit: str = "loss",
    dark: bool = False,
    height: int = 220,
) -> Figure:
    """One line per column of `points`, over its reports in the order they came; a missing value leaves a gap closed."""
    figure = base(title, dark=dark, height=height)
    colours = (ink(dark).accent, *OKABE_ITO[1:])
    for place, name in enumerate(points.columns):
        line = points[name].dropna()
        figure.add_trace(
            go.Scatter(
                x=[int(step) + 1 for step in line.index],
                y=[float(value) for value in line],
                name=str(name),
                mode="lines" if len(line) > 1 else "markers",
                line={"color": colours[place % len(colours)], "width": 2},
                hovertemplate="report %{x}: %{y:.4g}<extra>" + str(name) + "</extra>",
            )
        )
    figure.update_layout(showlegend=len(points.columns) > 1, margin={"t": 64 if len(points.columns) > 1 else 40})
    figure.update_layout(
        xaxis=axis("report", dark=dark), yaxis=axis(unit, dark=dark, rangemode="tozero" if unit == "loss" else "normal")
    )
    return plain(figure)
