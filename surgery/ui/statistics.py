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
        own = {seen.classes[place]: values[kept.groups == place] for place in seen.known(neuron)}
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
    known = seen.known(neuron)
    if len(known) < len(seen.classes):
        words = _("The {count} of {all} classes it answers to most; of so many, the others are not kept.")
        st.caption(words.format(count=len(known), all=f"{len(seen.classes):,}"))
    st.dataframe(numbers(seen, neuron), hide_index=True)


def numbers(seen: Seen, neuron: int) -> pd.DataFrame:
    """One row per class: samples, mean, standard deviation, share active."""
    known = seen.known(neuron)
    mean, var, active = (table[neuron, : len(known)] for table in (seen.mean, seen.var, seen.active))
    return pd.DataFrame(
        {
            _("Class"): [seen.classes[place] for place in known],
            _("Samples"): seen.count[known].astype(int),
            _("Mean"): mean.round(4),
            _("Standard deviation"): np.sqrt(var).round(4),
            _("% active"): (100 * active).round(1),
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
