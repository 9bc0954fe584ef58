"""One neuron: what it stands for, the samples it answers to most with the place it looks at, its profile over classes.

Further tabs hold why it is called so, whom it is connected to and its statistics; only the open one is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery import charts
from surgery.data.dataset import Dataset
from surgery.errors import SurgeryError
from surgery.jobs import probe
from surgery.ui import connections, evidence, format, model_tab, must_keep, pictures, statistics
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids
from surgery.ui.state import View
from surgery.workspace import Workspace

FOCUS = "surgery.focus"
NAMED = ("class", "concept")  # kinds of names that held on samples that they were not found on
EMPTY: Mapping[int, str] = MappingProxyType({})
Later = Callable[[], None]


def focus(seen: Seen, ids: Ids) -> int | None:
    """The neuron to look at: one of those selected; without any, the most selective of those named after one class."""
    if ids:
        place = int(st.session_state.get(FOCUS, 0)) % len(ids)
        return ids[place]
    points = seen.points
    named = points[points["name"] == points["top_class"]] if "name" in points else points  # a name that held on others
    best = named if len(named) else points
    return int(best["id"].to_numpy()[best["selectivity"].to_numpy().argmax()]) if len(best) else None


def tabs() -> dict[str, str]:
    """The tabs by what they are called in the URL; the first is open by default."""
    return {
        "answers": _("Answers to"),
        "why": _("Why"),
        "connections": _("Connections"),
        "statistics": _("Statistics"),
        "model": _("Model"),
    }


def show(view: View, seen: Seen, data: Dataset, neuron: int, ids: Ids) -> Later:
    """Draw one neuron of the scan, and the way to the others of those chosen; what is returned is left for later."""
    _head(seen, neuron, ids)
    called = tabs()
    opened = st.tabs(list(called.values()), key="tab", on_change="rerun", bind="query-params")
    for name, tab in zip(called, opened, strict=True):
        if tab.open:
            with tab:
                return _tab(name, view, seen, data, neuron, ids)
    return _nothing


def _tab(name: str, view: View, seen: Seen, data: Dataset, neuron: int, ids: Ids) -> Later:
    if name == "answers":
        later = _answers(view, seen, data, neuron)
        return later if ids else _nothing  # who has chosen nothing yet need not wait for a probe to warm up
    if name == "why":
        evidence.show(view, seen, data, neuron)
    elif name == "connections":
        connections.show(view, seen, data, neuron, ids)
    elif name == "statistics":
        statistics.show(view, seen, data, neuron)
    else:
        model_tab.show(view, seen)
    return _nothing


def _nothing() -> None:
    """Nothing is left to do."""


def _head(seen: Seen, neuron: int, ids: Ids) -> None:
    """Its place, its name with what the name is worth, one sentence."""
    row = seen.table.iloc[neuron]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        name = f"**{plain(row['layer'])} · {row['position']}** :gray[· {_('neuron')} {neuron}]"
        st.markdown(name if ids else f"{name} :gray[· {_('the most selective')}]", width="stretch")
        if len(ids) > 1:
            _steps(ids)
    st.markdown(f"{called(row)}{plain(row['sentence'])}")
    if row["fixed"]:
        st.caption(_("Cannot be removed: {why}.").format(why=plain(row["why_fixed"])))


def called(row: pd.Series) -> str:
    """The name of a neuron and what speaks for it; nothing for scans of older versions."""
    kind = str(row.get("name_kind", ""))
    if kind in NAMED:
        worth = _("fits {hits} of its {n} strongest unseen samples; by chance {chance}").format(
            hits=round(row["precision"] * row["held_out"]),
            n=int(row["held_out"]),
            chance=format.percent(row["chance"]),
        )
        return f":blue-badge[{plain(row['name'])}] :gray[{worth}]  \n"
    if kind in ("unclear", "dead", "constant", "neutral"):
        return f":gray-badge[{plain(row['name'])}] "
    return ""


def _steps(ids: Ids) -> None:
    """Go through the chosen neurons one by one."""
    place = int(st.session_state.get(FOCUS, 0)) % len(ids)
    _step(-1, "chevron_left", _("Previous chosen neuron"), "left")
    st.caption(f"{place + 1} / {len(ids)}", width="content")
    _step(+1, "chevron_right", _("Next chosen neuron"), "right")


def _step(by: int, icon: str, help: str, shortcut: str) -> None:
    def go() -> None:
        st.session_state[FOCUS] = int(st.session_state.get(FOCUS, 0)) + by

    st.button(
        "",
        icon=f":material/{icon}:",
        type="tertiary",
        help=help,
        key=f"step_{shortcut}",
        on_click=go,
        shortcut=shortcut,
    )


def _answers(view: View, seen: Seen, data: Dataset, neuron: int) -> Later:
    """Pictures beside the profile; where in the pictures it looks is asked of the probe, later."""
    if data.kind == "images":
        left, right = st.columns([2, 3], gap="small")
    else:  # rows of a table need the whole width
        right, left = st.container(), st.container()
    with left:
        place = st.empty()
        strongest(place, seen, data, neuron)
        must_keep.pin(view, seen.strongest(neuron), key="strongest")
    with right:
        profile(seen, neuron)
    if data.kind == "table" or view.version is None or view.dataset is None:
        return _nothing
    return lambda: located(place, view, seen, data, neuron)


def strongest(
    place: DeltaGenerator, seen: Seen, data: Dataset, neuron: int, *, over: Mapping[int, str] = EMPTY, note: str = ""
) -> None:
    """The samples on which a neuron is strongest, with what is to be drawn over each."""
    found = seen.strongest(neuron)
    with place.container(gap="small"):
        words = _("Strongest {count} of {all} samples").format(count=len(found), all=f"{seen.samples:,}")
        st.caption(words, help=_text_help() if data.kind == "text" else _picture_help())
        shown = [Shown(sample, pictures.label(data, sample), over.get(sample, "")) for sample in found]
        pictures.samples(data, shown, columns=3, width=220, key="located" if over or note else "strongest")
        if note:
            st.caption(note)


def _picture_help() -> str:
    return str(_("Orange: where it is active. Frame: the pixels its strongest value depends on."))


def _text_help() -> str:
    return str(_("Orange: how active it is at each character; the last one counts. Frame: the character that follows."))


def located(place: DeltaGenerator, view: View, seen: Seen, data: Dataset, neuron: int) -> None:
    """Draw the strongest samples once more, with where the neuron is active; without it when the probe cannot tell."""
    try:
        found = regions(view, neuron, tuple(seen.strongest(neuron)))
    except SurgeryError as error:
        strongest(place, seen, data, neuron, note=plain(error.what))
        return
    if found and data.kind == "text":
        over = {
            sample: pictures.heated(data.text(sample)[0][-len(one["map"]) :], one["map"])
            for sample, one in found.items()
        }
        strongest(place, seen, data, neuron, over=over)
    elif found:
        height, width = data.shape[1:]
        over = {sample: pictures.overlay(one, (height, width)) for sample, one in found.items()}
        strongest(place, seen, data, neuron, over=over)


def regions(view: View, neuron: int, samples: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """sample -> {map, box} of one neuron; empty where it has no place in pictures. The same is asked once."""
    if view.version is None or view.dataset is None or not samples:
        return {}
    answer = _regions(view.workspace, view.version.id, view.dataset.id, neuron, samples)
    return {one["sample"]: one for one in answer["regions"]}


@st.cache_data(max_entries=256, show_spinner=False)
def _regions(_ws: Workspace, version: str, dataset: str, neuron: int, samples: tuple[int, ...]) -> dict[str, Any]:
    return probe.ask(_ws, version, dataset, {"what": "regions", "neuron": neuron, "samples": list(samples)})


def profile(seen: Seen, neuron: int) -> None:
    """The mean activation on every class."""
    figure = charts.profile(
        seen.profile(neuron),
        seen.colours,
        title=_("What it answers to"),
        unit=_("mean activation"),
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="profile", alt=_("Mean activation per class"))
