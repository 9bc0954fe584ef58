"""What all figures share: a title that says what is shown, quiet axes with units, the theme's ink, a plain dict out.

A dict and not a `go.Figure`, because a cached Figure changes the key order of its JSON from one process to the
next, and Streamlit then takes it for another element and forgets the first selection.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from surgery.charts.palette import ink

Figure = dict[str, Any]
LONGEST = 40  # characters of a name
FONT = '"Source Sans", sans-serif'


def base(title: str, *, dark: bool, height: int) -> go.Figure:
    """An empty figure in the colours of the theme."""
    tone = ink(dark)
    return go.Figure(
        layout={
            "template": "none",
            "title": {
                "text": title,
                "x": 0,
                "xref": "paper",
                "xanchor": "left",
                "y": 1,
                "yanchor": "top",
                "pad": {"t": 8},
                "font": {"size": 14},
            },
            "font": {"family": FONT, "size": 12, "color": tone.text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "height": height,
            "margin": {"l": 8, "r": 8, "t": 34, "b": 8},
            "hoverlabel": {
                "align": "left",
                "bgcolor": tone.surface,
                "font": {"color": tone.text, "family": FONT},
                "bordercolor": tone.grid,
            },
            "showlegend": False,
            "legend": {
                "traceorder": "normal",
                "orientation": "h",
                "x": 0,
                "y": 1.0,
                "yanchor": "bottom",
                "xanchor": "left",
            },
        }
    )


def axis(title: str, *, dark: bool, **more: object) -> dict[str, Any]:
    """One axis: its title with unit, thin grid lines, no frame."""
    tone = ink(dark)
    plain = {
        "title": {"text": title, "font": {"color": tone.muted, "size": 12}},
        "gridcolor": tone.grid,
        "zerolinecolor": tone.grid,
        "linecolor": tone.grid,
        "tickfont": {"color": tone.muted},
        "automargin": True,
    }
    return plain | more


def named(names: Sequence[str]) -> list[str]:
    """Names from files as Plotly is to show them: nothing in them is markup, none fills the figure, equal ones are told
    apart by a number.
    """
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in map(str, names)]
    met: Counter[str] = Counter()
    found = []
    for name in short:
        met[name] += 1
        found.append(html.escape(name if met[name] == 1 else f"{name} ({met[name]})", quote=False))
    return found


def plain(figure: go.Figure) -> Figure:
    """The figure as JSON-able dicts and lists."""
    data: Figure = json.loads(figure.to_json())
    return data
