"""What readapting would train and why, before it is run: which classes suffered, how much of the network may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from surgery import charts
from surgery.ui import format
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain

Answer = Mapping[str, Any]
NAMED = 6  # classes in a sentence


def show(answer: Answer) -> None:
    """Draw the preview."""
    st.markdown(f"#### {plain(sentence(answer))}")
    st.markdown(
        _("{neurons} may change: {share} of the parameters. All else stays bit for bit.").format(
            neurons=plural("{count} neuron", "{count} neurons", answer["neurons"]),
            share=format.percent(answer["share"]),
        )
    )
    table = pd.DataFrame(answer["classes"])
    if len(table) > 1:
        figure = charts.differences(
            table,
            title=_("New data against old, per class"),
            unit="%",
            dark=st.context.theme.type == "dark",
        )
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="relearn_classes", alt=_("Accuracy per class"))
    st.caption(
        _("Measured on at most {n} validation samples of each; {train} new samples to learn from.").format(
            n=f"{answer['n']:,}", train=f"{answer['train']:,}"
        )
    )


def sentence(answer: Answer) -> str:
    """`3 classes suffered: cat −12, dog −8`."""
    changes = {row["scope"]: row["after"] - row["before"] for row in answer["classes"]}
    worse = [name for name in answer["suffered"] if changes.get(name, 0.0) < 0]
    if not worse:
        return _("No class is worse on the new data")
    listed = sorted(worse, key=lambda name: changes[name])
    text = ", ".join(f"{name} {format.signed(changes[name])}" for name in listed[:NAMED])
    more = f" … ({len(listed) - NAMED} more)" if len(listed) > NAMED else ""
    heading = plural("{count} class suffered", "{count} classes suffered", len(listed))
    return f"{heading}: {text}{more} {_('pp')}"


def action(answer: Answer) -> str:
    """What the button says."""
    return _("Readapt: train {share} of the parameters").format(share=format.percent(answer["share"]))
