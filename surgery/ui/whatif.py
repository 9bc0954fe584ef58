"""What the model can do without the neurons in hand, asked of the warm probe and shown at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery import charts
from surgery.jobs import probe
from surgery.ui import comparison, panels
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.selection import Ids
from surgery.ui.state import View
from surgery.workspace import Workspace

Answer = Mapping[str, Any]
QUALITY = ("accuracy", "r2", "agreement")  # what the headline tells, the first that was measured


def show(view: View, ids: Ids, words: DeltaGenerator, chart: DeltaGenerator) -> None:
    """Draw what silencing `ids` does on the probe set: a sentence into `words`, the classes into `chart`."""
    if not ids or view.version is None or view.dataset is None:
        words.caption(_("Choose neurons on the map to see at once what the model can do without them."))
        return
    place = words.empty()
    with place, panels.loading(52):
        answer = ask(view.workspace, view.version.id, view.dataset.id, ids)
    with place.container(gap="xxsmall"):
        headline(answer)
    with chart:
        per_class(answer)


@st.cache_data(max_entries=256, show_spinner=False)
def ask(_ws: Workspace, version: str, dataset: str, ids: Ids) -> dict[str, Any]:
    """The probe's answer; the same question is asked once."""
    return probe.ask(_ws, version, dataset, {"what": "whatif", "remove": list(ids), "fill": "mean"})


def headline(answer: Answer) -> None:
    """One sentence: quality before and after, who loses most, on how many samples of which split."""
    row = next(row for metric in QUALITY for row in answer["rows"] if row["metric"] == metric)
    said = f"{comparison.title(row)} {comparison.value(row, 'before')} → **{comparison.value(row, 'after')}**"
    st.markdown(f"{_('Without them')}: {said} :{comparison.colour(row)}[{comparison.change(row)}]")
    notes = [plain(comparison.losing(answer["rows"])), coupling(answer), comparison.measured_on(row)]
    st.caption(" · ".join(note for note in notes if note))


def coupling(answer: Answer) -> str:
    """How many go along, and how many stay although they were chosen."""
    extra = answer["removed"] - (answer["asked"] - answer["stay"])
    parts = []
    if extra > 0:
        parts.append(plural("{count} coupled neuron goes along", "{count} coupled neurons go along", extra))
    if answer["stay"]:
        parts.append(plural("{count} cannot be removed", "{count} cannot be removed", answer["stay"]))
    return ", ".join(parts)


def per_class(answer: Answer) -> None:
    """The change of every class's accuracy, where there are classes."""
    table = comparison.per_class(answer["rows"])
    if table.empty:
        return
    figure = charts.differences(
        table, title=_("Accuracy per class without them"), unit="%", dark=st.context.theme.type == "dark"
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="whatif", alt=_("Change of accuracy per class"))
