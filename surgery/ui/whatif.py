"""What the model can do without the neurons in hand, asked of the warm probe and shown at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery import change as changes
from surgery import charts
from surgery.jobs import probe
from surgery.receipt import answers, by_turns
from surgery.ui import comparison, panels, pictures
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.ui.selection import Ids
from surgery.ui.state import View
from surgery.workspace import Workspace

Answer = Mapping[str, Any]
FLIPS = 24  # pictures of each kind
QUALITY = ("accuracy", "r2", "agreement")  # what the headline tells, the first that was measured


def show(view: View, ids: Ids, words: DeltaGenerator, chart: DeltaGenerator) -> None:
    """Draw what the probe set says of a change to `ids`: a sentence into `words`, the classes into `chart`."""
    if not ids or view.version is None or view.dataset is None:
        words.caption(_("Choose neurons on the map to see at once what the model can do without them."))
        return
    with words:
        change = _controls()
    place = words.empty()
    with place, panels.loading(52):
        answer = ask(view.workspace, view.version.id, view.dataset.id, ids, change)
    with place.container(gap="xxsmall"):
        headline(answer, change)
        _flips(view, answer)
    with chart:
        per_class(answer, change)


@dataclass(frozen=True)
class Change:
    """What is done to the neurons in hand: silence them, keep only them in their layers, or scale them."""

    how: str = "silence"
    factor: float = 0.0

    @property
    def said(self) -> str:
        """How a sentence about it begins."""
        return {
            "keep": _("With only them in their layers"),
            "scale": _("With them at {factor}×").format(factor=f"{self.factor:g}"),
        }.get(self.how, _("Without them"))


def _controls() -> Change:
    called = {"silence": _("Silence"), "keep": _("Keep only"), "scale": _("Scale")}
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        how = st.segmented_control(
            _("What if"),
            list(called),
            default="silence",
            required=True,
            format_func=called.__getitem__,
            key="how",
            bind="query-params",
            label_visibility="collapsed",
            help=_("What is tried with the chosen neurons; nothing is changed."),
        )
        if how != "scale":
            return Change(str(how))
        factor = st.slider(
            _("Factor"), 0.0, 4.0, 2.0, 0.25, format="%.2f×", key="factor", bind="query-params", width=260
        )
        return Change("scale", float(factor))


@st.cache_data(max_entries=256, show_spinner=False)
def ask(_ws: Workspace, version: str, dataset: str, ids: Ids, change: Change) -> dict[str, Any]:
    """The probe's answer; the same question is asked once."""
    question = {"what": "whatif", "remove": list(ids), "fill": "mean", "how": change.how, "factor": change.factor}
    return probe.ask(_ws, version, dataset, question)


def headline(answer: Answer, change: Change) -> None:
    """One sentence: quality before and after, how sure that is, who loses most, on how many samples of which split."""
    row = next(row for metric in QUALITY for row in answer["rows"] if row["metric"] == metric)
    said = f"{changes.title(row)} {changes.value(row, 'before')} → **{changes.value(row, 'after')}**"
    st.markdown(f"{change.said}: {said} {comparison.coloured(row)}")
    notes = [plain(changes.worst_class(answer["rows"])[0]), coupling(answer), changes.measured_on(row)]
    st.caption(" · ".join(note for note in notes if note))


def _flips(view: View, answer: Answer) -> None:
    """The samples whose answer turns wrong or right, behind one click."""
    flips = answer["flips"]
    count = flips["lost_count"] + flips["won_count"]
    if not count or view.dataset is None or view.version is None:
        return
    label = plural("{count} answer changes", "{count} answers change", count)
    box = st.popover(label, icon=":material/swap_horiz:", type="tertiary", on_change="rerun", key="flips")
    if not box.open:
        return
    data = view.workspace.dataset(view.dataset.id)
    classes = data.fitting(view.workspace.inspect(view.version.id)["classes"]).classes
    with box:
        for side, title in (("lost", _("Right now, wrong then")), ("won", _("Wrong now, right then"))):
            st.caption(f"**{title}: {flips[f'{side}_count']}**")
            some = by_turns(flips[side], FLIPS)
            shown = [Shown(flip["sample"], answers(flip, classes)) for flip in some]
            if shown:
                pictures.samples(data, shown, columns=6, width=420, key=f"flips_{side}")
            pictures.of_how_many(len(shown), flips[f"{side}_count"])


def coupling(answer: Answer) -> str:
    """How many go along, and how many stay although they were chosen."""
    if answer.get("how") == "keep":
        return plural("{count} other is silenced", "{count} others are silenced", answer["removed"])
    extra = answer["removed"] - (answer["asked"] - answer["stay"])
    parts = []
    if extra > 0:
        parts.append(plural("{count} coupled neuron goes along", "{count} coupled neurons go along", extra))
    if answer["stay"]:
        parts.append(plural("{count} cannot be removed", "{count} cannot be removed", answer["stay"]))
    return ", ".join(parts)


def per_class(answer: Answer, change: Change) -> None:
    """The change of every class's accuracy, where there are classes."""
    table = comparison.per_class(answer["rows"])
    if table.empty:
        return
    figure = charts.differences(
        table,
        title=_("Accuracy per class: {what}").format(what=change.said.lower()),
        unit="%",
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="whatif", alt=_("Change of accuracy per class"))
