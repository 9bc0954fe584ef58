"""Must-keep cases: the set as pictures, what is covered, what a change lets in and out, and pins from anywhere."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery.data.dataset import Dataset
from surgery.errors import DataError, SurgeryError
from surgery.jobs import probe
from surgery.operations.base import Cases
from surgery.ui import format, panels, pictures
from surgery.ui.messages import _, plural
from surgery.ui.pictures import Shown
from surgery.ui.state import View
from surgery.workspace import MustKeep, Workspace

COLUMNS = 10  # pictures in a row
MOST_CLICKED = 60  # pictures with a tick of their own


def latest(ws: Workspace, dataset: str) -> MustKeep | None:
    """The present state of a dataset's set."""
    return next(iter(ws.must_keep(dataset)), None)


def kinds() -> dict[str, str]:
    """Why a case is in, in words."""
    return {"pinned": _("pinned"), "hard": _("hard"), "typical": _("typical"), "diverse": _("diverse")}


def summary(state: MustKeep) -> str:
    """`50 cases: 2 pinned, 20 hard, 14 typical, 14 diverse`."""
    counts = Counter(state.cases.values())
    listed = ", ".join(f"{counts[kind]} {name}" for kind, name in kinds().items() if counts[kind])
    return f"{plural('{count} case', '{count} cases', len(state.cases))}: {listed}"


@st.cache_data(max_entries=32, show_spinner=False)
def covered(_ws: Workspace, version: str, dataset: str, ids: tuple[int, ...]) -> dict[str, Any]:
    """The probe's answer: coverage of classes and clusters, and which cases the version gets right."""
    return probe.ask(_ws, version, dataset, {"what": "must_keep", "ids": list(ids)})


def coverage(answer: Mapping[str, Any]) -> None:
    """What the set stands for, and what it leaves out."""
    few = [row for row in answer["rows"] if row["few"]]
    if few:
        names = ", ".join(_named(row) for row in few[:6]) + (" …" if len(few) > 6 else "")
        st.warning(
            _("Hardly covered, by the data's own shares: {names}.").format(names=panels.plain(names)),
            icon=":material/balance:",
        )
    else:
        st.markdown(_(":material/balance: Every class and every cluster of the data is covered."))
    with st.expander(_("Shares of the set and of the data")):
        st.dataframe(
            pd.DataFrame(
                {
                    _("Group"): [_named(row) for row in answer["rows"]],
                    _("of the cases"): [format.percent(row["cases"]) for row in answer["rows"]],
                    _("of the data"): [format.percent(row["data"]) for row in answer["rows"]],
                }
            ),
            hide_index=True,
            height="content",
        )


def _named(row: Mapping[str, Any]) -> str:
    return str(row["name"]) if row["kind"] == "class" else _("cluster {number}").format(number=row["name"])


def ticks(data: Dataset, shown: Sequence[Shown], *, key: str, ticked: bool) -> list[int]:
    """Samples with a tick under each, all or none ticked at first; those that are ticked now."""
    if data.kind == "text":
        return _passages(data, shown[:MOST_CLICKED], key=key, ticked=ticked)
    chosen = []
    for start in range(0, min(len(shown), MOST_CLICKED), COLUMNS):
        row = shown[start : start + COLUMNS]
        for column, each in zip(st.columns(COLUMNS, gap="small"), row, strict=False):
            with column:
                if data.kind == "images":
                    st.html(pictures.grid(data, [Shown(each.sample, "")], columns=1, width=96))
                label = each.caption if data.kind == "images" else f"#{each.sample} {each.caption}"
                if st.checkbox(panels.plain(label), value=ticked, key=f"{key}_{each.sample}"):
                    chosen.append(each.sample)
    return chosen


def _passages(data: Dataset, shown: Sequence[Shown], *, key: str, ticked: bool) -> list[int]:
    """Windows of text one below the other, a tick before each."""
    chosen = []
    for each in shown:
        tick, passage = st.columns([1, 9], gap="small", vertical_alignment="center")
        if tick.checkbox(f"#{each.sample}", value=ticked, key=f"{key}_{each.sample}"):
            chosen.append(each.sample)
        with passage:
            st.html(pictures.passages(data, [Shown(each.sample, "")]))
    return chosen


def change(ws: Workspace, state: MustKeep | None, dataset: str, *, add: Sequence[int], drop: Sequence[int] = ()) -> int:
    """Save a new state with samples pinned and others let go; how many cases it has.

    Raises:
        DataError: nothing is left, or a sample is one of test.
    """
    cases = dict(state.cases) if state else {}
    for sample in drop:
        cases.pop(sample, None)
    cases |= dict.fromkeys(add, "pinned")
    return len(ws.save_must_keep(dataset, cases).cases)


def read_ids(content: bytes) -> list[int]:
    """The sample ids of a CSV: its column `sample` or `id`, else its only column.

    Raises:
        DataError: it is no table of whole numbers.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"))) if row]
        head = [cell.strip().lower() for cell in rows[0]]
        place = next((head.index(name) for name in ("sample", "id") if name in head), None)
        if place is not None:
            rows = rows[1:]
        elif len(head) > 1:
            raise ValueError("no column is called sample or id")
        return [int(row[place or 0]) for row in rows]
    except (UnicodeDecodeError, ValueError, IndexError, csv.Error) as error:
        raise DataError(
            f"This is no list of samples: {error}.", "Give a CSV with a column “sample” of whole numbers."
        ) from error


def difference(data: Dataset, before: MustKeep, after: MustKeep) -> None:
    """What entered and what left from one state to the next."""
    entered = [id for id in after.ids if id not in before.cases]
    left = [id for id in before.ids if id not in after.cases]
    st.markdown(
        _("Since state {number}: {entered} entered, {left} left.").format(
            number=before.number, entered=len(entered), left=len(left)
        )
    )
    for name, ids, state in ((_("Entered"), entered, after), (_("Left"), left, before)):
        if ids:
            st.caption(f"**{name}**")
            shown = [Shown(id, f"{pictures.label(data, id)}, {kinds()[state.cases[id]]}") for id in ids[:MOST_CLICKED]]
            pictures.samples(data, shown, columns=12, width=900, key=f"must_keep_{name}")


def pin(view: View, samples: Sequence[int], *, key: str) -> None:
    """Below a grid of samples: let some of them be must-keep cases."""
    if view.dataset is None or view.dataset.task == "unlabelled" or not samples:
        return
    ws, dataset = view.workspace, view.dataset.id
    state = latest(ws, dataset)
    offered = [id for id in dict.fromkeys(samples) if state is None or id not in state.cases]
    if not offered:
        return
    with st.popover(_("Must keep …"), icon=":material/push_pin:", type="tertiary", key=f"pin_{key}"):
        chosen = st.pills(
            _("Samples that no surgery may break"),
            offered,
            selection_mode="multi",
            format_func=lambda id: f"#{id}",
            key=f"pins_{key}",
        )
        if st.button(_("Pin"), disabled=not chosen, key=f"pin_now_{key}", icon=":material/push_pin:"):
            try:
                count = change(ws, state, dataset, add=chosen)
            except SurgeryError as error:
                st.error(str(error), icon=":material/error:")
            else:
                st.toast(_("{count} must-keep cases now").format(count=count), icon=":material/push_pin:")
                st.rerun()


def required(ws: Workspace, dataset: str) -> Cases:
    """In a form of a surgery: whether its result must keep the cases, and how many may break."""
    state = latest(ws, dataset)
    if state is None:
        return Cases(may_break=0)
    label = _("Keep the {count} must-keep cases").format(count=len(state.cases))
    help = _("A result that breaks more than allowed is stored, but does not become the current version.")
    if not st.toggle(label, value=True, key="must_keep", bind="query-params", help=help):
        return Cases(may_break=0)
    may = st.number_input(_("Cases that may break"), 0, len(state.cases), 0, key="may_break", bind="query-params")
    return Cases(ids=state.ids, may_break=int(may))
