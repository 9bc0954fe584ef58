"""How one neuron answers: its values on every class as boxes, and two neurons beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from surgery.charts.figure import Figure, axis, base, named, plain
from surgery.charts.palette import GROUPED, ink

ROW = 26  # pixels of one class
MOST_ROWS = 12


def distribution(
    values: Mapping[str, NDArray[np.float32]],
    colours: Mapping[str, str],
    *,
    title: str,
    unit: str,
    dark: bool = False,
) -> Figure:
    """A box per class: the middle half, the median, whiskers from the 5th to the 95th percentile.

    values: class -> float32[n], the activation on each of its samples. Above 12 classes the 12 of largest median.
    """
    names = [name for name, own in values.items() if len(own)]
    if len(names) > MOST_ROWS:
        largest = set(sorted(names, key=lambda name: -float(np.median(values[name])))[:MOST_ROWS])
        title = f"{title} · the {MOST_ROWS} strongest of {len(names)}"
        names = [name for name in names if name in largest]
    tone = ink(dark)
    figure = base(title, dark=dark, height=90 + ROW * max(len(names), 2))
    for name, label in zip(names, named(names), strict=True):
        low, first, median, third, high = np.percentile(values[name], [5, 25, 50, 75, 95]).tolist()
        colour = colours.get(name, GROUPED)
        figure.add_trace(
            go.Box(
                y=[label],
                orientation="h",
                lowerfence=[low],
                q1=[first],
                median=[median],
                q3=[third],
                upperfence=[high],
                name=label,
                fillcolor=colour,
                line={"color": tone.text, "width": 1},
                hoverinfo="x",
            )
        )
    figure.update_layout(
        boxgap=0.35,
        xaxis=axis(unit, dark=dark),
        yaxis=axis("", dark=dark, type="category", autorange="reversed", showgrid=False, ticksuffix=" "),
    )
    return plain(figure)


def pair(
    names: Sequence[str],
    first: Sequence[float],
    second: Sequence[float],
    *,
    called: tuple[str, str],
    title: str,
    dark: bool = False,
) -> Figure:
    """Two neurons over the same classes, each as a share of its own largest mean, so that loud and quiet compare."""
    shares = [[100 * value / (max(map(abs, side)) or 1.0) for value in side] for side in (first, second)]
    if len(names) > MOST_ROWS:
        reach = [max(abs(a), abs(b)) for a, b in zip(*shares, strict=True)]
        kept = sorted(sorted(range(len(names)), key=lambda i: -reach[i])[:MOST_ROWS])
        title = f"{title} · the {MOST_ROWS} strongest of {len(names)}"
        names, shares = [names[i] for i in kept], [[side[i] for i in kept] for side in shares]
    tone = ink(dark)
    figure = base(title, dark=dark, height=110 + ROW * max(len(names), 2))
    looks = ({"color": tone.accent}, {"color": tone.bar, "pattern": {"shape": "/", "size": 5, "solidity": 0.3}})
    for label, side, marker in zip(named(called), shares, looks, strict=True):
        figure.add_trace(
            go.Bar(
                x=side,
                y=named(names),
                orientation="h",
                name=label,
                marker=marker,
                hovertemplate="%{y}: %{x:.0f} %<extra>" + label + "</extra>",
            )
        )
    figure.update_layout(
        barmode="group",
        bargap=0.25,
        showlegend=True,
        margin={"t": 64},
        xaxis=axis("% of its own largest mean", dark=dark),
        yaxis=axis("", dark=dark, type="category", autorange="reversed", showgrid=False, ticksuffix=" "),
    )
    return plain(figure)
