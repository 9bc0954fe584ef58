"""Whom a neuron is connected to, by weight and by likeness; a row chosen is laid beside it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from surgery import charts
from surgery.data.dataset import Dataset
from surgery.jobs import probe
from surgery.ui import pictures, responses, selection
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids
from surgery.ui.state import View
from surgery.workspace import Workspace


def show(view: View, seen: Seen, data: Dataset, neuron: int, ids: Ids) -> None:
    """Draw who feeds it, whom it feeds or who is most alike; then the one chosen among them beside it."""
    called = {"upstream": _("Fed by"), "downstream": _("Feeds"), "alike": _("Most alike")}
    way = st.segmented_control(
        _("Connections"),
        list(called),
        default="upstream",
        required=True,
        format_func=called.__getitem__,
        key="way",
        bind="query-params",
        label_visibility="collapsed",
    )
    other = _alike(seen, neuron) if way == "alike" else _ends(view, seen, neuron, str(way))
    if other is None or other == neuron:
        other = next((one for one in ids if one != neuron), None)
    if other is None:
        st.caption(_("Choose a row to lay that neuron beside this one."))
        return
    beside(view, seen, data, (neuron, other))


@st.cache_data(max_entries=256, show_spinner=False)
def ask(_ws: Workspace, version: str, dataset: str, neuron: int) -> dict[str, Any]:
    """The probe's answer; the same question is asked once."""
    return probe.ask(_ws, version, dataset, {"what": "connections", "neuron": neuron})


def beside(view: View, seen: Seen, data: Dataset, both: tuple[int, int]) -> None:
    """Two neurons side by side: names, pictures, profiles on one scale."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{_('Side by side')}**", width="stretch")
        if st.button(_("Take both"), icon=":material/filter_alt:", key="take_both"):
            selection.choose(view, both)
            st.rerun()
    for column, neuron in zip(st.columns(2, gap="small"), both, strict=True):
        with column:
            st.caption(f"{plain(titled(seen, neuron))} — {plain(seen.table.at[neuron, 'sentence'])}")
            shown = [Shown(sample, pictures.label(data, sample)) for sample in seen.strongest(neuron)]
            pictures.samples(data, shown, columns=3, width=180, key=f"beside_{neuron}")
    left, right = (seen.profile(neuron) for neuron in both)
    names = [name for name in left if name in right]
    if not names:
        st.caption(_("Of the {count} classes that each answers to most, none is the other's.").format(count=len(left)))
        return
    figure = charts.pair(
        names,
        [left[name] for name in names],
        [right[name] for name in names],
        called=(titled(seen, both[0]), titled(seen, both[1])),
        title=_("What the two answer to"),
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="pair", alt=_("Mean activation of both per class"))


def titled(seen: Seen, neuron: int) -> str:
    """`top.conv · 8 (5)`: where a neuron is, and its name where it has one."""
    row = seen.table.iloc[neuron]
    name = f" ({row['name']})" if row.get("name_kind") in ("class", "concept") else ""
    return f"{row['layer']} · {row['position']}{name}"


def _ends(view: View, seen: Seen, neuron: int, way: str) -> int | None:
    """A table of connections; the neuron of the chosen row."""
    if view.version is None or view.dataset is None:
        return None
    found = ask(view.workspace, view.version.id, view.dataset.id, neuron)[way]
    if not found:
        st.caption(_("Nothing: it has no such weights."))
        return None
    ends = [one["neuron"] for one in found]
    signs = ["+" if one["weight"] > 0 else "−" for one in found]
    share = _("% of its layer's weight")
    table = pd.DataFrame(
        {
            _("Neuron"): [titled(seen, end) if end >= 0 else _("the input") for end in ends],
            _("Sign"): signs,
            share: [100 * one["share"] for one in found],
        }
    )
    help = _("Root of the summed squared weights between the two, of all that the layer has; the sign is of their sum.")
    return _chosen(table, [seen.leaders.get(end) for end in ends], f"{way}_{neuron}", (share, 100.0, help))


def _alike(seen: Seen, neuron: int) -> int | None:
    """The neurons of all layers that answer most alike, by correlation over samples."""
    kept = responses.of(seen)
    if kept is None:
        st.caption(_("This scan was made by an older version: scan again to see which neurons answer alike."))
        return None
    found = kept.nearest(seen.ids.index(neuron))
    ends = [seen.ids[place] for place, _likeness in found]
    column = _("Correlation")
    table = pd.DataFrame(
        {_("Neuron"): [titled(seen, end) for end in ends], column: [likeness for _place, likeness in found]}
    )
    help = _("Of the two activations over {n} samples, in all layers.").format(n=f"{len(kept.samples):,}")
    return _chosen(table, list(ends), f"alike_{neuron}", (column, 1.0, help))


def _chosen(table: pd.DataFrame, ends: list[int | None], key: str, bar: tuple[str, float, str]) -> int | None:
    """Draw a table with one column (name, largest value, help) as bars; the neuron of the row that is chosen."""
    column, largest, help = bar
    event = st.dataframe(
        table,
        hide_index=True,
        key=key,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            column: st.column_config.ProgressColumn(help=help, min_value=0.0, max_value=largest, format="%.2g")
        },
    )
    rows = event["selection"]["rows"]
    return ends[rows[0]] if rows and rows[0] < len(ends) else None
