"""Quality over size of many models: one mark each, the ones that no other beats joined by a line."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from surgery.charts.figure import Figure, axis, base, plain
from surgery.charts.palette import OKABE_ITO, ink
from surgery.charts.rates import SYMBOLS


def size_and_quality(
    points: pd.DataFrame, *, title: str, unit: str, higher: bool, best: str, dark: bool = False
) -> Figure:
    """points: columns name, kind, kilobytes, quality (in `unit`), best (bool: no other is as small and as good).

    higher: whether more quality is better, which the axis says. best: what the joining line is called.
    """
    tone = ink(dark)
    figure = base(title, dark=dark, height=340)
    line = points[points["best"]].sort_values("kilobytes")
    figure.add_trace(
        go.Scatter(
            x=line["kilobytes"].tolist(),
            y=line["quality"].tolist(),
            name=best,
            mode="lines",
            line={"color": tone.muted, "width": 1.5, "dash": "dot", "shape": "hv"},
            hoverinfo="skip",
        )
    )
    for place, (kind, own) in enumerate(points.groupby("kind", sort=False)):
        figure.add_trace(
            go.Scatter(
                x=own["kilobytes"].tolist(),
                y=own["quality"].tolist(),
                name=str(kind),
                mode="markers+text",
                text=own["name"].tolist(),
                textposition="top center",
                textfont={"color": tone.text, "size": 11},
                marker={
                    "size": 11,
                    "color": OKABE_ITO[place % len(OKABE_ITO)],
                    "symbol": SYMBOLS[place % len(SYMBOLS)],
                },
                hovertemplate=f"%{{text}}, {kind}<br>%{{x:,.1f}} kB: %{{y:.4g}} {unit}<extra></extra>",
            )
        )
    direction = "↑ better" if higher else "↓ better"
    figure.update_layout(showlegend=True, margin={"t": 84}, legend={"y": 1.02})
    figure.update_layout(
        xaxis=axis("kB on disk", dark=dark, type="log"), yaxis=axis(f"{unit} ({direction})", dark=dark)
    )
    return plain(figure)
