"""Bars over classes and layers: one neuron's profile, before against after, kept against removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from surgery.charts.figure import Figure, axis, base, named, plain
from surgery.charts.palette import GROUPED, change_colours, ink, verdict_colours
from surgery.units import signed, signed_digits

ROW = 17  # pixels of one bar row
MOST_ROWS = 12


def profile(
    values: Mapping[str, float], colours: Mapping[str, str], *, title: str, unit: str, dark: bool = False
) -> Figure:
    """What one neuron answers to: a bar per class, in the class's colour; above 12 classes the strongest 12."""
    names = list(values)
    if len(names) > MOST_ROWS:
        strongest = set(sorted(names, key=lambda name: -abs(values[name]))[:MOST_ROWS])
        title = f"{title} · the {MOST_ROWS} strongest of {len(names)}"
        names = [name for name in names if name in strongest]
    figure = base(title, dark=dark, height=_height(len(names)))
    figure.add_trace(
        go.Bar(
            x=[values[name] for name in names],
            y=named(names),
            orientation="h",
            marker={"color": [colours.get(name, GROUPED) for name in names]},
            hovertemplate="%{y}: %{x:.3g}<extra></extra>",
        )
    )
    figure.update_layout(bargap=0.3, xaxis=axis(unit, dark=dark), yaxis=_rows(dark))
    return plain(figure)


def before_after(
    table: pd.DataFrame, *, title: str, unit: str, better: str = "higher", dark: bool = False, most: int = MOST_ROWS
) -> Figure:
    """Two bars per class, and the differences around zero beside them: blue for better, orange for worse, signed.

    table: columns scope, before, after, in `unit` (differences of % are points), and optionally verdict ("better",
    "worse", or "same" for a difference that is not significant); without it `better`, "higher" or "lower", decides.
    """
    rows, title = _largest(table, title, most)
    tone = ink(dark)
    figure = base(title, dark=dark, height=_height(len(rows), row=30) + 24)
    names = named(rows["scope"].tolist())
    figure.add_trace(_side(names, rows["before"], "before", tone.bar, unit))
    figure.add_trace(_side(names, rows["after"], "after", tone.accent, unit))
    figure.add_trace(_differences(names, rows, better, unit, dark))
    figure.update_layout(
        barmode="group",
        bargap=0.25,
        showlegend=True,
        margin={"t": 64},
        xaxis=axis(unit, dark=dark, domain=[0, 0.62], rangemode="tozero"),
        xaxis2=_difference_axis(rows["change"].tolist(), unit, dark),
        yaxis=_rows(dark),
    )
    return plain(figure)


def differences(
    table: pd.DataFrame, *, title: str, unit: str, better: str = "higher", dark: bool = False, most: int = MOST_ROWS
) -> Figure:
    """Only the differences around zero, for a narrow place; before and after are shown on hover.

    table: as of `before_after`.
    """
    rows, title = _largest(table, title, most)
    names, changes = named(rows["scope"].tolist()), rows["change"].tolist()
    bars = _differences(names, rows, better, unit, dark)
    bars.update(xaxis="x", customdata=rows[["before", "after"]].to_numpy().tolist())
    bars.update(hovertemplate="%{y}: %{customdata[0]:.3g} → %{customdata[1]:.3g} " + unit + "<extra></extra>")
    figure = base(title, dark=dark, height=_height(len(rows)))
    figure.add_trace(bars)
    across = _difference_axis(changes, unit, dark) | {"domain": [0, 1]}
    figure.update_layout(bargap=0.3, xaxis=across, yaxis=_rows(dark))
    return plain(figure)


def layers(
    table: pd.DataFrame, *, title: str, dark: bool = False, kept: str = "kept", removed: str = "removed"
) -> Figure:
    """How much of every layer stays and goes, first layer on top; what goes is hatched as well as orange.

    table: columns layer, kept, removed (numbers of neurons), in the order of execution.
    """
    tone = ink(dark)
    figure = base(title, dark=dark, height=_height(len(table)) + 24)
    names = named(table["layer"].tolist())
    hatch = {"shape": "/", "size": 6, "solidity": 0.35}
    marks: Sequence[tuple[str, str, dict[str, Any]]] = (
        (kept, "kept", {"color": tone.bar}),
        (removed, "removed", {"color": tone.worse, "pattern": hatch}),
    )
    for name, column, marker in marks:
        figure.add_trace(
            go.Bar(
                x=table[column].tolist(),
                y=names,
                orientation="h",
                name=name,
                marker=marker,
                text=_counts(table, column),
                textposition="outside" if column == "removed" else "inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"size": 11},
                constraintext="none",
                cliponaxis=False,
                hovertemplate="%{y}: %{x} " + name + "<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.3, showlegend=True, margin={"t": 64})
    widest = float((table["kept"] + table["removed"]).max()) if len(table) else 1.0
    room = [0, 1.3 * widest]  # for what stands right of the longest bar
    figure.update_layout(xaxis=axis("neurons", dark=dark, range=room), yaxis=_rows(dark))
    return plain(figure)


def _largest(table: pd.DataFrame, title: str, most: int) -> tuple[pd.DataFrame, str]:
    """The rows with the largest changes in their own order, and a title that says when some are left out."""
    rows = table.assign(change=table["after"] - table["before"])
    if len(rows) <= most:
        return rows, title
    largest = rows["change"].abs().sort_values(ascending=False, kind="stable").index[:most]
    return rows.loc[rows.index.isin(largest)], f"{title} · the {most} largest changes of {len(table)}"


def _counts(table: pd.DataFrame, column: str) -> list[str]:
    """What stands on the bars: how many stay, and how many of all go."""
    if column == "kept":
        return [str(count) if count else "" for count in table["kept"]]
    total = table["kept"] + table["removed"]
    return [f"−{gone} of {whole}" if gone else "" for gone, whole in zip(table["removed"], total, strict=True)]


def _side(names: list[str], values: pd.Series, name: str, colour: str, unit: str) -> go.Bar:
    return go.Bar(
        x=[float(value) for value in values],
        y=names,
        orientation="h",
        name=name,
        marker={"color": colour},
        hovertemplate="%{y}, " + name + ": %{x:.3g} " + unit + "<extra></extra>",
    )


def _differences(names: list[str], rows: pd.DataFrame, better: str, unit: str, dark: bool) -> go.Bar:
    changes = rows["change"].tolist()
    judged = rows["verdict"].tolist() if "verdict" in rows else None
    colours = change_colours(changes, better, dark) if judged is None else verdict_colours(judged, dark)
    shown = [signed(change) if unit.startswith("%") else signed_digits(change) for change in changes]
    return go.Bar(
        x=changes,
        y=names,
        orientation="h",
        name="difference",
        xaxis="x2",
        showlegend=False,
        marker={"color": colours},
        text=shown,
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{text} " + _points(unit) + "<extra></extra>",
    )


def _difference_axis(changes: list[float], unit: str, dark: bool) -> dict[str, Any]:
    """From the smallest change to the largest, zero included, with room for a label on every side that has bars."""
    low, high = min((0.0, *changes)), max((0.0, *changes))
    span = high - low or 1.0
    ends = [low - (0.45 if low else 0.2) * span, high + (0.45 if high else 0.2) * span]
    line = {"zeroline": True, "zerolinecolor": ink(dark).muted, "showgrid": False}
    return axis(f"difference, {_points(unit)}", dark=dark, domain=[0.68, 1], range=ends, **line)


def _points(unit: str) -> str:
    """A difference of percentages is in percentage points."""
    return "pp" if unit.startswith("%") else unit


def _rows(dark: bool) -> dict[str, Any]:
    """Names of classes or layers down the side, the first on top, never read as numbers."""
    return axis("", dark=dark, type="category", autorange="reversed", showgrid=False, ticksuffix=" ")


def _height(rows: int, row: int = ROW) -> int:
    return 84 + row * max(rows, 2)
