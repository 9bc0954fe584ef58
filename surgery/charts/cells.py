"""A grid of shares whose cells can be clicked: classes over layers, classes over classes, truth over answers.

A heatmap gives no selection, so an invisible marker lies on each cell; it carries the cell's number, row · columns +
column, in `customdata`. Numbers are written in black or white, whichever stands out more from the cell's colour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from surgery.charts.figure import Figure, axis, base, named, plain
from surgery.charts.palette import amounts, ink, scale, shade, text_on

CELL = 24  # pixels of a row
ROOM = 36  # letters under all columns together that fit without a slant
WRITTEN = 400  # cells up to which each shows its number
TALLEST = 620


def cells(
    shares: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    dark: bool = False,
    axes: tuple[str, str] = ("", ""),
    chosen: int | None = None,
    written: NDArray[np.int64] | None = None,
    hover: str = "%{y} · %{x}: %{text} %",
    unit: str = "%",
    room: int = 0,
) -> Figure:
    """A grid of shares 0–1, shown as %: shares[i, j] belongs to rows[i] (from the top) and columns[j]; NaN is blank.

    axes: what columns and rows are. chosen: the number of a cell that is framed. written: other numbers to write into
    the cells; `hover` says what they are (%{text} is the number, %{y} and %{x} row and column). room: the figure is as
    high as one of so many rows, to stand beside another.
    """
    tone = ink(dark)
    colours = amounts(dark, filled=True)
    rows, columns = named(rows), named(columns)
    percent = 100 * shares
    figure = base(title, dark=dark, height=min(TALLEST, 100 + CELL * max(len(rows), room)))
    figure.add_trace(
        go.Heatmap(
            z=[[None if np.isnan(cell) else round(float(cell), 1) for cell in row] for row in percent],
            x=list(range(len(columns))),
            y=list(range(len(rows))),
            zmin=0,
            zmax=100,
            xgap=1,
            ygap=1,
            colorscale=scale(colours),
            hoverinfo="skip",
            colorbar={
                "title": {"text": unit, "side": "top"},
                "thickness": 10,
                "outlinewidth": 0,
                "tickfont": {"color": tone.muted},
            },
        )
    )
    numbers = np.nan_to_num(percent).round().astype(int) if written is None else written
    if shares.size <= WRITTEN:
        figure.add_traces(_numbers(shares, numbers, colours))
    figure.add_trace(_targets(numbers, rows, columns, hover))
    if chosen is not None and chosen < shares.size:
        figure.add_shape(_frame(*divmod(chosen, len(columns)), colour=tone.worse))
    figure.update_layout(
        clickmode="event+select",
        dragmode=False,
        xaxis=_names(columns, axes[0], dark, tickangle=_angle(columns), side="bottom"),
        yaxis=_names(rows, axes[1], dark, autorange=None, range=[len(rows) - 0.5, -0.5]),
    )
    figure.update_xaxes(range=[-0.5, len(columns) - 0.5])
    return plain(figure)


def _angle(names: Sequence[str]) -> int:
    """Names that would run into each other are slanted."""
    return -45 if len(names) > 12 or sum(map(len, names)) > ROOM else 0


def _numbers(shares: NDArray[np.float64], numbers: NDArray[np.int64], colours: Sequence[str]) -> list[go.Scatter]:
    """The numbers in two traces, one of black and one of white text."""
    places: dict[str, list[tuple[int, int]]] = {}
    for i, j in np.argwhere(~np.isnan(shares)).tolist():
        places.setdefault(text_on(shade(float(shares[i, j]), colours)), []).append((i, j))
    return [
        go.Scatter(
            x=[j for _i, j in found],
            y=[i for i, _j in found],
            text=[f"{numbers[place]}" for place in found],
            mode="text",
            textfont={"color": colour, "size": 11},
            unselected={"textfont": {"color": colour}},
            hoverinfo="skip",
        )
        for colour, found in places.items()
    ]


def _targets(numbers: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], hover: str) -> go.Scatter:
    """What a click hits: one invisible square per cell."""
    count = len(columns)
    names = [(rows[i], columns[j]) for i in range(len(rows)) for j in range(count)]
    words = [
        hover.replace("%{y}", row).replace("%{x}", column).replace("%{text}", str(number))
        for (row, column), number in zip(names, numbers.ravel().tolist(), strict=True)
    ]
    return go.Scatter(
        x=[cell % count for cell in range(len(names))],
        y=[cell // count for cell in range(len(names))],
        customdata=list(range(len(names))),
        text=words,
        mode="markers",
        marker={"symbol": "square", "size": CELL - 4, "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        hovertemplate="%{text}<extra></extra>",
    )


def _frame(row: int, column: int, *, colour: str) -> dict[str, object]:
    corners = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    return {"type": "rect", "line": {"color": colour, "width": 3}, **corners}


def _names(names: Sequence[str], title: str, dark: bool, **more: object) -> dict[str, object]:
    """An axis with a name at each whole number; of very many, every so manieth."""
    step = max(1, -(-len(names) // 60))
    ticks = list(range(0, len(names), step))
    plain = {"tickmode": "array", "tickvals": ticks, "ticktext": [names[place] for place in ticks]}
    return axis(title, dark=dark, showgrid=False, zeroline=False, **plain, **more)
