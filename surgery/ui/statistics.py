"""The numbers behind one neuron: its values on every class, and for tables the features it goes with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.analysis import neighbours
from surgery.data.dataset import Dataset
from surgery.ui import responses
from surgery.ui.messages import _
from surgery.ui.responses import Kept
from surgery.ui.scans import Seen
from surgery.ui.state import View

FEATURES = 12


def show(view: View, seen: Seen, data: Dataset, neuron: int) -> None:
    """Draw the distribution per class, the features of a table, and the table of numbers."""
    dark = st.context.theme.type == "dark"
    kept = responses.of(seen)
    if kept is not None:
        values = kept.row(seen.ids.index(neuron))
        own = {name: values[kept.groups == number] for number, name in enumerate(seen.classes)}
        figure = charts.distribution(
            own,
            seen.colours,
            title=_("Its activation, sample by sample (n = {n})").format(n=f"{len(values):,}"),
            unit=_("activation; box: middle half, whiskers: 5–95 %"),
            dark=dark,
        )
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="distribution", alt=_("Distribution per class"))
        if data.kind == "table":
            _features(data, kept, values, dark)
    st.dataframe(numbers(seen, neuron), hide_index=True, height=min(38 + 35 * len(seen.classes), 320))


def numbers(seen: Seen, neuron: int) -> pd.DataFrame:
    """One row per class: samples, mean, standard deviation, share active."""
    return pd.DataFrame(
        {
            _("Class"): list(seen.classes),
            _("Samples"): seen.count.astype(int),
            _("Mean"): seen.mean[neuron].round(4),
            _("Standard deviation"): np.sqrt(seen.var[neuron]).round(4),
            _("% active"): (100 * seen.active[neuron]).round(1),
        }
    )


def _features(data: Dataset, kept: Kept, values: responses.Row, dark: bool) -> None:
    """Which features of the table rise and fall with it."""
    found = neighbours.correlations(data.raw(kept.samples), values)
    best = np.argsort(-np.abs(found), kind="stable")[:FEATURES]
    figure = charts.profile(
        {data.features[place]: float(found[place]) for place in best},
        {},
        title=_("Features it goes with"),
        unit=_("correlation with its activation"),
        dark=dark,
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="features", alt=_("Correlation with each feature"))
