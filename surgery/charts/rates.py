"""Quality over the share of parameters masked: one line per way to choose neurons, the control in grey."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from surgery.charts.figure import Figure, axis, base, plain
from surgery.charts.palette import OKABE_ITO, ink

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")


def quality_over_rate(
    points: pd.DataFrame,
    *,
    title: str,
    unit: str,
    full: float,
    control: str,
    note: str,
    across: str = "masked",
    dark: bool = False,
) -> Figure:
    """points: columns line, `across` (% of parameters), value (in `unit`), in the order to draw.

    full: the value of the whole model. control: the line drawn in grey and dashed. note: what each point was measured
    on, shown on hover. across: what was done to the parameters: "masked", or "left".
    """
    tone = ink(dark)
    figure = base(title, dark=dark, height=360)
    for place, (name, own) in enumerate(points.groupby("line", sort=False)):
        grey = name == control
        colour = tone.muted if grey else OKABE_ITO[place % len(OKABE_ITO)]
        figure.add_trace(
            go.Scatter(
                x=own[across].tolist(),
                y=own["value"].tolist(),
                name=str(name),
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": "dot" if grey else "solid"},
                marker={"size": 8, "symbol": SYMBOLS[place % len(SYMBOLS)]},
                hovertemplate=f"{name}<br>%{{x:.1f}} % {across}: %{{y:.1f}} {unit}<br>{note}<extra></extra>",
            )
        )
    figure.add_hline(
        y=full,
        line={"color": tone.muted, "width": 1},
        annotation={"text": f"whole model {full:.1f}", "font": {"color": tone.muted, "size": 11}},
        annotation_position="top left",
    )
    figure.update_layout(showlegend=True, margin={"t": 84}, legend={"y": 1.02})
    share = axis(f"% of parameters {across}", dark=dark, rangemode="tozero")
    figure.update_layout(xaxis=share, yaxis=axis(unit, dark=dark))
    return plain(figure)
