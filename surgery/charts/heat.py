"""Shares as a grid of coloured cells: classes over layers, classes over classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from surgery.charts.figure import Figure, axis, base, plain
from surgery.charts.palette import ink, scale

CELL = 24  # pixels of a row
WRITTEN = 240  # cells up to which each shows its number
TALLEST = 620


def heat(
    shares: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], *, title: str, dark: bool = False
) -> Figure:
    """A grid of shares 0–1, shown as %: shares[i, j] belongs to rows[i] (from the top) and columns[j]."""
    tone = ink(dark)
    percent = 100 * shares
    figure = base(title, dark=dark, height=min(TALLEST, 90 + CELL * len(rows)))
    figure.add_trace(
        go.Heatmap(
            z=percent.round(1).tolist(),
            x=list(columns),
            y=list(rows),
            zmin=0,
            zmax=100,
            xgap=1,
            ygap=1,
            colorscale=scale(),
            colorbar={
                "title": {"text": "%", "side": "top"},
                "thickness": 10,
                "outlinewidth": 0,
                "tickfont": {"color": tone.muted},
            },
            hovertemplate="%{y} · %{x}: %{z:.0f} %<extra></extra>",
            texttemplate="%{z:.0f}" if percent.size <= WRITTEN else None,
        )
    )
    figure.update_layout(
        xaxis=axis("", dark=dark, type="category", showgrid=False, tickangle=-45 if len(columns) > 12 else 0),
        yaxis=axis("", dark=dark, type="category", autorange="reversed", showgrid=False),
    )
    return plain(figure)
