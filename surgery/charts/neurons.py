"""The map of all neurons: near means alike. Ids travel in `customdata`, so a click is never a position."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from surgery.charts.figure import Figure, axis, base, plain
from surgery.charts.legend import Legend
from surgery.charts.palette import ink, scale

Mode = Literal["click", "lasso"]
Trace = dict[str, Any]
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
) -> Figure:
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
    # As plain dicts: plotly's own trace objects take ten times as long for thousands of points.
    traces = [_marked(trace, selected) for trace in _traces(points, colour, shown, dark)]
    removed = [] if ghosts is None or ghosts.empty else [_ghosts(ghosts, dark)]
    return plain(figure) | {"data": [*removed, *traces]}


def picked(event: object) -> tuple[int, ...]:
    """The ids in a Streamlit plot event, ascending; empty when nothing is selected."""
    selection = event.get("selection", {}) if hasattr(event, "get") else {}
    ids = {_id(point.get("customdata")) for point in selection.get("points", ())}
    return tuple(sorted(i for i in ids if i is not None))


def _id(customdata: object) -> int | None:
    if isinstance(customdata, dict):  # Streamlit passes a list on as {"0": …}
        customdata = customdata.get("0")
    if isinstance(customdata, list | tuple):
        customdata = customdata[0] if customdata else None
    return int(customdata) if isinstance(customdata, int | float) else None


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
        groups = [(points.iloc[shown[labels == label]], label, shade) for label, shade in colour.colours.items()]
        return [_trace(rows, label, {"size": size, "color": shade}, dark) for rows, label, shade in groups]
    values = np.asarray(colour, dtype=float)[shown]
    bar = {"thickness": 10, "outlinewidth": 0, "tickfont": {"color": ink(dark).muted}}
    marker = {"size": size, "color": values.tolist(), "colorscale": scale(), "colorbar": bar}
    return [_trace(points.iloc[shown], "", marker, dark)]


def _trace(rows: pd.DataFrame, name: str, marker: dict[str, Any], dark: bool) -> Trace:
    return {
        "type": "scattergl",
        "x": rows["x"].tolist(),
        "y": rows["y"].tolist(),
        "customdata": [[i] for i in rows["id"].tolist()],
        "text": rows["text"].tolist(),
        "hovertemplate": "%{text}<extra></extra>",
        "mode": "markers",
        "name": name,
        "marker": {"line": {"width": 0.5, "color": ink(dark).surface}, **marker},
    }


def _marked(trace: Trace, selected: Collection[int]) -> Trace:
    """Fade everything but the selection; also what the browser shows at once after a click or lasso."""
    faded: Trace = {
        "selected": {"marker": {"opacity": 1, "size": trace["marker"]["size"] + 3}},
        "unselected": {"marker": {"opacity": 0.18}},
    }
    if selected:
        wanted = set(selected)
        faded["selectedpoints"] = [place for place, row in enumerate(trace["customdata"]) if row[0] in wanted]
    return trace | faded


def _ghosts(rows: pd.DataFrame, dark: bool) -> Trace:
    """Removed neurons, where they were: crosses, and without an id, so they cannot be selected."""
    return {
        "type": "scattergl",
        "x": rows["x"].tolist(),
        "y": rows["y"].tolist(),
        "text": rows["text"].tolist(),
        "hovertemplate": "%{text}<extra></extra>",
        "mode": "markers",
        "marker": {"size": 7, "symbol": "x-thin", "line": {"width": 1.2, "color": ink(dark).muted}},
        "name": "removed",
        "opacity": 0.7,
    }
