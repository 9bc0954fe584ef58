"""Curves over the steps of a computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from surgery.charts.figure import Figure, axis, base, plain
from surgery.charts.palette import OKABE_ITO, ink

IN_A_ROW = 3  # lines in a row of the legend


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
    lines = len(points.columns)
    figure.update_layout(showlegend=lines > 1, margin={"t": 46 + 20 * -(-lines // IN_A_ROW) if lines > 1 else 40})
    figure.update_layout(
        xaxis=axis("report", dark=dark), yaxis=axis(unit, dark=dark, rangemode="tozero" if unit == "loss" else "normal")
    )
    return plain(figure)


def over_time(table: pd.DataFrame, *, title: str, unit: str, dark: bool = False) -> Figure:
    """A number for every column of `table` (a row of the figure), look by look (a row of the table), as colours."""
    height = 110 + max(150, 14 * len(table.columns))
    figure, tone = base(title, dark=dark, height=height), ink(dark)
    figure.add_trace(
        go.Heatmap(
            z=[[float(value) for value in table[name]] for name in table],
            x=list(range(1, len(table) + 1)),
            y=[str(name) for name in table],
            colorscale="Cividis",
            zmin=0,
            zmax=float(table.to_numpy().max()),
            colorbar={"title": {"text": unit}, "tickfont": {"color": tone.muted}, "thickness": 12},
            hovertemplate="%{y}, look %{x}: %{z:.2f} " + unit + "<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis=axis("look", dark=dark), yaxis=axis("", dark=dark, autorange="reversed", showgrid=False, type="category")
    )
    return plain(figure)


def guarded(quality: pd.Series, *, least: float, back: pd.Series, title: str, dark: bool = False) -> Figure:
    """A quality (%) look by look, the limit that it may not stay below, and a mark where the last safe state came back.

    quality: float[n]; back: bool[n].
    """
    figure, tone = base(title, dark=dark, height=260), ink(dark)
    looks = list(range(1, len(quality) + 1))
    figure.add_trace(
        go.Scatter(
            x=looks,
            y=[float(value) for value in quality],
            mode="lines+markers",
            line={"color": tone.accent, "width": 2},
            hovertemplate="look %{x}: %{y:.1f} %<extra></extra>",
        )
    )
    went = [number for number, one in zip(looks, back, strict=True) if one]
    figure.add_trace(
        go.Scatter(
            x=went,
            y=[float(quality.iloc[number - 1]) for number in went],
            mode="markers+text",
            text=["went back"] * len(went),
            textposition="bottom center",
            textfont={"color": tone.worse, "size": 11},
            marker={"color": tone.worse, "size": 11, "symbol": "x"},
            hovertemplate="look %{x}: back to the last safe state<extra></extra>",
        )
    )
    figure.add_hline(
        y=least,
        line={"color": tone.muted, "width": 1, "dash": "dot"},
        annotation={"text": f"limit {least:.1f}", "font": {"color": tone.muted, "size": 11}},
        annotation_position="bottom left",
    )
    figure.update_layout(showlegend=False, xaxis=axis("look", dark=dark), yaxis=axis("%", dark=dark))
    return plain(figure)


def watched(looks: pd.DataFrame, *, starts: Sequence[Mapping[str, Any]], title: str, dark: bool = False) -> Figure:
    """Agreement (%) of everybody who is watched over the inputs so far, each with its limit dotted, and a cross where
    one fell below; vertical lines where a stream begins.

    looks: columns inputs, guest, agreement, limit, gone. starts: rows of {stream, inputs before it}.
    """
    figure, tone = base(title, dark=dark, height=300), ink(dark)
    colours = (tone.accent, *OKABE_ITO[1:])
    for place, (guest, own) in enumerate(looks.groupby("guest", sort=False)):
        colour = colours[place % len(colours)]
        inputs, gone = own["inputs"].tolist(), own[own["gone"]]
        for values, dash, name in ((own["agreement"], "solid", str(guest)), (own["limit"], "dot", "limit")):
            figure.add_trace(
                go.Scatter(
                    x=inputs,
                    y=[100 * float(value) for value in values],
                    name=str(guest),
                    mode="lines",
                    showlegend=dash == "solid",
                    line={"color": colour, "width": 2 if dash == "solid" else 1, "dash": dash},
                    hovertemplate="%{x:,} inputs: %{y:.1f} %<extra>" + name + "</extra>",
                )
            )
        figure.add_trace(
            go.Scatter(
                x=gone["inputs"].tolist(),
                y=[100 * float(value) for value in gone["agreement"]],
                mode="markers+text",
                text=["taken back"] * len(gone),
                textposition="bottom center",
                textfont={"color": tone.worse, "size": 11},
                marker={"color": tone.worse, "size": 11, "symbol": "x"},
                showlegend=False,
                hovertemplate="taken back after %{x:,} inputs<extra></extra>",
            )
        )
    for start in starts:
        figure.add_vline(
            x=start["inputs"],
            line={"color": tone.muted, "width": 1},
            annotation={"text": start["stream"], "font": {"color": tone.muted, "size": 11}},
            annotation_position="top right",
        )
    figure.update_layout(
        margin={"t": 70},
        showlegend=True,
        xaxis=axis("inputs", dark=dark),
        yaxis=axis("agreement, %", dark=dark),
    )
    return plain(figure)
