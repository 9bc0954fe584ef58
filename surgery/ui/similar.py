"""Layers of two versions side by side: how alike every two are, and what two of them tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.jobs import probe
from surgery.ui import format, panels, pictures, taking
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.workspace import DatasetRow, Version, Workspace

CELL = "similar"  # ?similar=: the cell that was clicked
SAMPLES, WIDTH = 5, 400  # pictures of an end of a direction, in pixels all together


def metrics() -> dict[str, str]:
    """What can be compared by, in the order in which it is offered."""
    return {
        "cka": _("Debiased linear CKA"),
        "procrustes": _("Procrustes"),
        "profile": _("Profiles of the classes"),
    }


def draw(ws: Workspace, one: Version, other: Version, dataset: DatasetRow) -> None:
    """The figure of all pairs; below it the pair that was clicked."""
    named = metrics()
    metric = st.selectbox(
        _("Similarity"), list(named), format_func=lambda name: named[name], key="metric", bind="query-params", width=320
    )
    with st.spinner(_("Comparing layers …")):
        found = _similar(ws, one.id, other.id, dataset.id, str(metric))
    rows, columns = found["layers"]
    value = np.array(found["value"], dtype=float)
    chosen = taking.clicked(CELL, value.size)
    names = [f"v{version.number} {version.name}" for version in (one, other)]
    figure = charts.cells(
        np.clip(value, 0, 1),
        rows,
        columns,
        title=_("How alike the two see the samples, layer by layer"),
        axes=(names[1], names[0]),
        hover=_("%{y} and %{x}: %{text} %"),
        unit=_("similarity, %"),
        chosen=chosen,
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(
        figure,
        theme=None,
        config=charts.CONFIG | {"scrollZoom": False},
        key=f"figure_{CELL}",
        on_select=partial(taking.remember, CELL),
        selection_mode="points",
        alt=_("Similarity of every two layers"),
    )
    st.caption(
        _(
            "Over {n} samples. Similarity sees no order of channels: a high one does not say that one layer can stand "
            "in for the other. Whether a share works is tried under Share. Click a cell to see what both tell apart."
        ).format(n=f"{found['samples']:,}")
    )
    _cuts((one, other), found["cuts"])
    if chosen is not None:
        row, column = divmod(chosen, len(columns))
        _pair(ws, (one, other), dataset, (rows[row], columns[column]), found, (row, column))


def _cuts(versions: tuple[Version, Version], cuts: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Where each can be cut, and what lies before."""
    with st.expander(_("Where they can be cut"), icon=":material/content_cut:"):
        for column, version, own in zip(st.columns(2, gap="medium"), versions, cuts, strict=True):
            column.markdown(f"**v{version.number} {plain(version.name)}**")
            column.dataframe(
                pd.DataFrame(
                    {
                        _("cut"): [cut["name"] for cut in own],
                        _("representation"): [" × ".join(map(str, cut["shape"])) for cut in own],
                        _("numbers"): [cut["numbers"] for cut in own],
                        _("weights before"): [format.size(cut["bytes"]) for cut in own],
                        _("multiply-adds before"): [format.amount(cut["macs"]) for cut in own],
                    }
                ),
                hide_index=True,
            )


def _pair(
    ws: Workspace,
    versions: tuple[Version, Version],
    dataset: DatasetRow,
    layers: tuple[str, str],
    found: dict[str, Any],
    place: tuple[int, int],
) -> None:
    """Two layers: their similarity with its bound, and the samples at the ends of what each tells apart most."""
    value, low = found["value"][place[0]][place[1]], found["low"][place[0]][place[1]]
    said = f"{100 * value:.1f} %"
    if low is not None:
        said += _(", at least {low} % on other samples like these").format(low=f"{100 * low:.1f}")
    st.markdown(f"##### {plain(layers[0])} · {plain(layers[1])}: {said}")
    answer = _responses(ws, versions[0].id, versions[1].id, dataset.id, layers)
    data = ws.dataset(dataset.id)
    for column, version, side in zip(st.columns(2, gap="medium"), versions, answer["sides"], strict=True):
        with column, panels.panel(f"v{version.number} {plain(version.name)} · {plain(side['layer'])}"):
            st.caption(_("{count} channels").format(count=side["channels"]))
            for number, direction in enumerate(side["directions"], 1):
                st.markdown(
                    _("**{number}** carries {share} of the spread: these … and these").format(
                        number=number, share=format.percent(direction["share"])
                    )
                )
                shown = [*direction["high"][:SAMPLES], *direction["low"][:SAMPLES]]
                key = f"direction_{version.id}_{number}"
                labelled = [Shown(id, pictures.label(data, id)) for id in shown]
                pictures.samples(data, labelled, columns=SAMPLES, width=WIDTH, key=key)
    st.caption(together(answer["together"]))


def together(correlations: Sequence[Sequence[float]]) -> str:
    """Which direction of the one goes with which of the other."""
    table = np.abs(np.array(correlations))
    if not table.size:
        return ""
    pairs = [(row + 1, int(table[row].argmax()) + 1, float(table[row].max())) for row in range(len(table))]
    said = ", ".join(
        _("{one} with {other} ({share} %)").format(one=one, other=other, share=f"{100 * value:.0f}")
        for one, other, value in pairs
    )
    return _("What goes together, left with right (correlation): {said}.").format(said=said)


@st.cache_data(max_entries=64, show_spinner=False)
def _similar(_ws: Workspace, one: str, other: str, dataset: str, metric: str) -> dict[str, Any]:
    return probe.ask(_ws, one, dataset, {"what": "similar", "other": other, "metric": metric})


@st.cache_data(max_entries=64, show_spinner=False)
def _responses(_ws: Workspace, one: str, other: str, dataset: str, layers: tuple[str, str]) -> dict[str, Any]:
    return probe.ask(_ws, one, dataset, {"what": "responses", "other": other, "layers": list(layers)})
