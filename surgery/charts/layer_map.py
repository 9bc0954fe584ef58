"""The network at a glance: one box per layer from input to output, its height the size, its colour a number.

Above the boxes run the shortcuts (a layer that feeds another than the next), below them what goes together (layers
whose neurons can only be removed with each other). A box carries its number in `customdata`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from surgery.charts.figure import Figure, axis, base, named, plain
from surgery.charts.palette import amounts, ink, scale

LEAST = 0.06  # of the largest box's height: a box must be seen and hit
HEIGHT, TALL = 340, 440
SLANTED = 12  # boxes


def layer_map(
    boxes: pd.DataFrame,
    edges: Sequence[tuple[int, int]],
    couplings: Sequence[tuple[int, int]],
    *,
    title: str,
    colour: str,
    size: str,
    dark: bool = False,
    chosen: int | None = None,
) -> Figure:
    """boxes: columns name, size, value (NaN = unknown), text (on hover), in order; edges, couplings: pairs of rows.

    colour, size: what value and size are. The height of a box goes with the root of its size: its area in a square.
    """
    tone = ink(dark)
    share = np.sqrt(boxes["size"].to_numpy(dtype=float))
    height = np.maximum(share / max(share.max(), 1e-9), LEAST)
    figure = base(f"{title} · height: {size}", dark=dark, height=HEIGHT if len(boxes) <= SLANTED else TALL)
    links = [(start, end) for start, end in edges if start >= 0 and end - start == 1]
    across = [place for start, end in links for place in (start + 0.35, end - 0.35, None)]
    figure.add_trace(_line(across, [0.0] * len(across), "feeds", tone.muted, dash="solid", legend=True))
    shortcuts = [pair for pair in edges if pair[0] >= 0 and pair[1] - pair[0] > 1]
    for place, (start, end) in enumerate(shortcuts):
        figure.add_trace(_arc(start, end, 1, "skips ahead", tone.muted, dash="solid", legend=place == 0))
    for place, (start, end) in enumerate(couplings):
        figure.add_trace(_arc(start, end, -1, "goes together", tone.worse, dash="dot", legend=place == 0))
    known = boxes["value"].notna().to_numpy()
    figure.add_traces([_boxes(boxes, height, own, colour if own is known else "", dark) for own in (known, ~known)])
    if chosen is not None and chosen < len(boxes):
        half = 0.5 * float(height[chosen]) + 0.03
        corners = {"x0": chosen - 0.4, "x1": chosen + 0.4, "y0": -half, "y1": half}
        figure.add_shape(type="rect", line={"color": tone.worse, "width": 3}, **corners)
    slant = -40 if len(boxes) <= SLANTED else -90  # slanted names of many boxes lie on each other
    names = {"tickmode": "array", "tickvals": list(range(len(boxes))), "ticktext": named(boxes["name"].tolist())}
    figure.update_layout(
        clickmode="event+select",
        dragmode=False,
        showlegend=True,
        bargap=0.3,
        margin={"t": 64},
        xaxis=axis("input → output", dark=dark, showgrid=False, zeroline=False, tickangle=slant, **names),
        yaxis=axis("", dark=dark, showgrid=False, zeroline=False, showticklabels=False, range=[-1.1, 1.1]),
    )
    return plain(figure)


def _boxes(boxes: pd.DataFrame, height: np.ndarray, own: np.ndarray, colour: str, dark: bool) -> go.Bar:
    """The boxes at own: bool[rows], coloured by their number, or grey where there is none (colour = "")."""
    tone = ink(dark)
    places, height, boxes = np.flatnonzero(own).tolist(), height[own], boxes[own]
    marker: dict[str, object] = {"color": tone.bar, "line": {"width": 1, "color": tone.muted}}
    if colour and places:
        bar = {"thickness": 10, "outlinewidth": 0, "title": {"text": colour}, "tickfont": {"color": tone.muted}}
        marker |= {"color": boxes["value"].tolist(), "colorscale": scale(amounts(dark)), "colorbar": bar}
    return go.Bar(
        x=places,
        y=height.tolist(),
        base=(-height / 2).tolist(),
        width=0.7,
        customdata=places,
        text=boxes["text"].tolist(),
        textposition="none",
        marker=marker,
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _arc(start: int, end: int, side: int, name: str, colour: str, *, dash: str, legend: bool) -> go.Scatter:
    """A curve from box to box, higher the farther they are apart."""
    t = np.linspace(0, 1, 21)
    reach = side * min(0.45 + 0.06 * (end - start), 1.0)
    x, y = start + (end - start) * t, reach * 4 * t * (1 - t)
    return _line(x.tolist(), y.tolist(), name, colour, dash=dash, legend=legend)


def _line(x: list[float | None], y: list[float], name: str, colour: str, *, dash: str, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=legend,
        line={"color": colour, "width": 1.6, "dash": dash},
        hoverinfo="skip",
    )
