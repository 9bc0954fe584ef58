"""The map of all neurons: near means alike. Ids travel in `customdata`, so a click is never a position.

The one figure that is no plain dict: Streamlit validates and copies a dict of thousands of points in every run of the
page, which takes ten times as long as sending a `go.Figure` of arrays. Whoever draws it keeps the object while it is
shown: built again in another process its JSON may differ, and Streamlit then forgets the selection.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from surgery.charts.figure import axis, base, named
from surgery.charts.legend import Legend
from surgery.charts.palette import amounts, ink, scale

Mode = Literal["click", "lasso"]
Trace = dict[str, Any]
NeuronMap: TypeAlias = go.Figure
MOST_POINTS = 20_000
CONFIG = {"displaylogo": False, "scrollZoom": True, "displayModeBar": False}


def neuron_map(
    points: pd.DataFrame,
    colour: Legend | Sequence[float],
    *,
    title: str,
    selected: Collection[int] = (),
    mode: Mode = "click",
    dark: bool = False,
    ghosts: pd.DataFrame | None = None,
    height: int = 560,
) -> NeuronMap:
    """A scatter of neurons, coloured by labels (`Legend`) or by a number per point (cividis, with its scale).

    points: columns id, x, y, text (one line shown on hover); ghosts: the same for neurons that were removed.
    selected: ids that stand out; all others fade. Above 20,000 points a sample is shown and the title says so.
    """
    shown = _sample(len(points), points["id"].isin(list(selected)).to_numpy())
    if len(shown) < len(points):
        title = f"{title} · {len(shown):,} of {len(points):,} shown"
    figure = base(title, dark=dark, height=height)
    blank = axis("", dark=dark, showgrid=False, zeroline=False, showticklabels=False)
    figure.update_layout(dragmode="lasso" if mode == "lasso" else "pan", hovermode="closest")
    figure.update_layout(margin={"l": 0, "r": 0, "b": 0})
    figure.update_layout(
        clickmode="event+select", xaxis=blank, yaxis=blank, newselection={"line": {"color": ink(dark).text}}
    )
    if ghosts is not None and not ghosts.empty:
        figure.add_trace(_ghosts(ghosts, dark))
    figure.add_traces([_marked(trace, selected) for trace in _traces(points, colour, shown, dark)])
    return figure


def picked(event: object) -> tuple[int, ...]:
    """The ids in a Streamlit plot event, ascending; empty when nothing is selected."""
    selection = event.get("selection", {}) if hasattr(event, "get") else {}
    ids = {point.get("customdata") for point in selection.get("points", ())}
    return tuple(sorted(int(i) for i in ids if i is not None))


def _sample(total: int, must: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions to draw: all up to the limit, else every selected one and an even, fixed choice of the others."""
    if total <= MOST_POINTS:
        return np.arange(total)
    rest = np.flatnonzero(~must)
    room = max(MOST_POINTS - int(must.sum()), 0)
    some = np.random.default_rng(0).choice(rest, size=min(room, len(rest)), replace=False)
    return np.sort(np.concatenate([np.flatnonzero(must), some]))


def _traces(points: pd.DataFrame, colour: Legend | Sequence[float], shown: Any, dark: bool) -> list[Trace]:
    size = 9 if len(points) < 1500 else 6  # pixels
    if isinstance(colour, Legend):
        labels = np.asarray(colour.labels, dtype=object)[shown]
        rows = zip(named(list(colour.colours)), colour.colours.items(), strict=True)
        return [
            _trace(points.iloc[shown[labels == label]], name, {"size": size, "color": shade}, dark)
            for name, (label, shade) in rows
        ]
    values = np.asarray(colour, dtype=float)[shown]
    bar = {"thickness": 10, "outlinewidth": 0, "tickfont": {"color": ink(dark).muted}}
    marker = {"size": size, "color": values, "colorscale": scale(amounts(dark)), "colorbar": bar}
    return [_trace(points.iloc[shown], "", marker, dark)]


def _trace(rows: pd.DataFrame, name: str, marker: dict[str, Any], dark: bool) -> Trace:
    return {
        "type": "scattergl",
        "x": rows["x"].to_numpy(),
        "y": rows["y"].to_numpy(),
        "customdata": rows["id"].to_numpy(dtype=np.int32),
        "text": rows["text"].to_numpy(dtype=object),
        "hovertemplate": "%{text}<extra></extra>",
        "mode": "markers",
        "name": name,
        "marker": {"line": {"width": 0.5, "color": ink(dark).surface}, **marker},
    }


def _marked(trace: Trace, selected: Collection[int]) -> Trace:
    """Fade everything but the selection; also what the browser shows at once after a click or lasso."""
    faded: Trace = {
        "selected": {"marker": {"opacity": 1, "size": trace["marker"]["size"] + 5}},
        "unselected": {"marker": {"opacity": 0.15}},
    }
    if selected:
        faded["selectedpoints"] = np.flatnonzero(np.isin(trace["customdata"], list(selected)))
    return trace | faded


def _ghosts(rows: pd.DataFrame, dark: bool) -> Trace:
    """Removed neurons, where they were: crosses, and without an id, so they cannot be selected."""
    return {
        "type": "scattergl",
        "x": rows["x"].to_numpy(),
        "y": rows["y"].to_numpy(),
        "text": rows["text"].to_numpy(dtype=object),
        "hovertemplate": "%{text}<extra></extra>",
        "mode": "markers",
        "marker": {"size": 5, "symbol": "x-thin", "line": {"width": 1, "color": ink(dark).muted}},
        "name": "removed",
        "opacity": 0.35,  # behind the neurons that are there, in size and in strength
    }
