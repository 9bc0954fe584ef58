"""What few bits would come to: uniform bits before any training, and who guards the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from surgery.ui import format
from surgery.ui.messages import _

Answer = Mapping[str, Any]


def show(answer: Answer) -> None:
    """Draw the preview."""
    whole = answer["whole"]
    st.markdown(f"#### {sentence(answer)}")
    cases = _("{n} must-keep cases guard it: at least {least} of them must stay right.")
    if answer["text"]:
        cases = _("{n} must-keep windows guard it: their likelihood per character must stay at {least}.")
    guard = (
        cases
        if answer["cases"]
        else _("{n} validation samples guard it, as there are no must-keep cases: quality must stay at {least}.")
    )
    st.markdown(":material/shield: " + guard.format(n=f"{answer['guarded']:,}", least=format.percent(answer["least"])))
    st.dataframe(table(answer), hide_index=True, height="content", key="squeeze_table")
    st.caption(
        _(
            "Every row of weights in equally few bits, before any training. The job learns how many each row needs, "
            "and trains along. Now: {size}, {quality}."
        ).format(size=format.size(whole["bytes"]), quality=format.percent(whole["quality"]))
    )
    st.caption(
        _("Fewer bits make the file smaller. On this machine they are decoded before use, so nothing runs faster.")
    )


def table(answer: Answer) -> pd.DataFrame:
    """The rows in words."""
    whole, rows = answer["whole"], answer["squeezes"]
    return pd.DataFrame(
        {
            _("Bits"): [f"{row['bits']:g}" for row in rows],
            _("Size"): [format.size(row["bytes"]) for row in rows],
            _("of now"): [format.percent(row["bytes"] / whole["bytes"]) for row in rows],
            _("Quality before training"): [format.percent(row["quality"]) for row in rows],
            _("Change (pp)"): [format.signed(100 * (row["quality"] - whole["quality"])) for row in rows],
        }
    )


def sentence(answer: Answer) -> str:
    """`From 267 kB to at most 30 kB`."""
    now = format.size(answer["whole"]["bytes"])
    if answer["goal"] is None:
        return _("From {now} to as little as the guard lets it").format(now=now)
    return _("From {now} to at most {goal}").format(now=now, goal=format.size(answer["goal"]))


def action(answer: Answer) -> str:
    """What the button says."""
    if answer["goal"] is None:
        return _("Compress to few bits")
    return _("Compress to {goal}").format(goal=format.size(answer["goal"]))
