"""One neuron: a sentence, the samples it answers to most, its profile over the classes."""

from __future__ import annotations

import streamlit as st

from surgery import charts
from surgery.data.dataset import Dataset
from surgery.ui import pictures
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids

FOCUS = "surgery.focus"


def focus(seen: Seen, ids: Ids) -> int | None:
    """The neuron to look at: one of those in hand; without any, the most selective of all."""
    if ids:
        place = int(st.session_state.get(FOCUS, 0)) % len(ids)
        return ids[place]
    return seen.ids[int(seen.points["selectivity"].to_numpy().argmax())] if seen.ids else None


def show(seen: Seen, data: Dataset, neuron: int, ids: Ids) -> None:
    """Draw one neuron of the scan, and the way to the others of those chosen."""
    row = seen.table.iloc[neuron]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        name = f"**{plain(row['layer'])} · {row['position']}** :gray[· {_('neuron')} {neuron}]"
        st.markdown(name if ids else f"{name} :gray[· {_('the most selective')}]", width="stretch")
        if len(ids) > 1:
            _steps(ids)
    st.markdown(plain(row["sentence"]))
    if row["fixed"]:
        st.caption(_("Cannot be removed: {why}.").format(why=plain(row["why_fixed"])))
    if data.kind == "images":
        left, right = st.columns([2, 3], gap="small")
    else:  # rows of a table need the whole width
        right, left = st.container(), st.container()
    with left:
        _strongest(seen, data, neuron)
    with right:
        _profile(seen, neuron)


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


def _strongest(seen: Seen, data: Dataset, neuron: int) -> None:
    found = seen.strongest(neuron)
    st.caption(_("Strongest {count} of {all} samples").format(count=len(found), all=f"{seen.samples:,}"))
    shown = [Shown(sample, pictures.label(data, sample)) for sample in found]
    pictures.samples(data, shown, columns=3, width=220, key="strongest")


def _profile(seen: Seen, neuron: int) -> None:
    figure = charts.profile(
        seen.profile(neuron),
        seen.colours,
        title=_("What it answers to"),
        unit=_("mean activation"),
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="profile", alt=_("Mean activation per class"))
