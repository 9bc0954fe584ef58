"""Why a neuron is called what it is called: the unseen samples that the name was tested on, and for which classes it
matters.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.analysis import naming, query
from surgery.data.dataset import Dataset
from surgery.ui import format, layer_boxes, must_keep, pictures, responses, slicing
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.ui.scans import Seen
from surgery.ui.state import View

SHOWN = 12  # of the samples that a name was tested on


def show(view: View, seen: Seen, data: Dataset, neuron: int) -> None:
    """Draw the evidence for a name, then how critical the neuron is for each class."""
    kept = responses.of(seen)
    if kept is None:
        st.info(
            _("This scan was made by an older version: scan again to see single samples."), icon=":material/history:"
        )
        return
    row = seen.table.iloc[neuron]
    st.markdown(claim(row))
    _unseen(view, seen, data, kept, neuron)
    _critical(view, seen, neuron)
    _measured(seen, neuron)


def claim(row: pd.Series) -> str:
    """What is claimed by the name, in one or two sentences."""
    kind = str(row["name_kind"])
    if kind in ("class", "concept"):
        return _(
            "Named **{name}** by half of the samples. Of its {n} strongest samples in the other half, {share} fit the "
            "name; {chance} of all samples do."
        ).format(
            name=plain(row["name"]),
            n=int(row["held_out"]),
            share=format.percent(row["precision"]),
            chance=format.percent(row["chance"]),
        )
    return {
        "dead": _("It was 0 on every sample: removing it changes nothing on this data."),
        "constant": _("It gave the same on every sample: its effect can be folded into the biases of its readers."),
        "neutral": _("Its means on all classes lie within 10 % of each other: it answers, but tells no classes apart."),
    }.get(
        kind,
        _(
            "No name held: the samples it answers to most share no class, or the other half of the samples did not "
            "confirm it beyond chance (99.9 %)."
        ),
    )


def _unseen(view: View, seen: Seen, data: Dataset, kept: responses.Kept, neuron: int) -> None:
    """The strongest samples of the half that the name was not found on, fitting ones marked."""
    values = kept.row(seen.ids.index(neuron))
    _first, second = naming.halves(kept.groups)
    held = second[naming.strongest(values[second], float(values.mean()))][:SHOWN]
    if not len(held):
        return
    row = seen.table.iloc[neuron]
    said = f" or {row['name']} or "  # a class may itself be called "this or that"
    names = {name for name in seen.classes if f" or {name} or " in said} if row["name_kind"] == "class" else set()
    st.caption(_("Its strongest samples among those the name was not found on"))
    shown = []
    for place in held.tolist():
        sample = int(kept.samples[place])
        label = pictures.label(data, sample)
        kind = data.groups[int(data.strata([sample])[0])] if data.kind == "text" else label
        mark = "" if not names or data.task != "classification" else " ✓" if kind in names else " ✗"
        shown.append(Shown(sample, label + mark))
    pictures.samples(data, shown, columns=6, width=460, key="unseen")
    must_keep.pin(view, [each.sample for each in shown], key="unseen")


def _critical(view: View, seen: Seen, neuron: int) -> None:
    """For which classes it matters, among the neurons of its layer."""
    sliced = slicing.of(view)
    if sliced is None:
        st.caption(_("How much each class depends on it is computed on the page Slices."))
        return
    layers = seen.points["layer"].to_numpy(dtype=object)
    own = layers == seen.table.at[neuron, "layer"]
    ranks = query.layer_ranks(layers[own], sliced.scores["taylor"][own].astype(np.float64))
    mine = ranks[np.flatnonzero(np.asarray(seen.ids)[own] == neuron)[0]]
    figure = charts.profile(
        dict(zip(seen.classes, (100 * mine).tolist(), strict=True)),
        seen.colours,
        title=_("How much each class depends on it"),
        unit=_("% of the other neurons of its layer that matter less (effect on the loss)"),
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="critical", alt=_("Criticality per class"))


def _measured(seen: Seen, neuron: int) -> None:
    """What silencing it alone was measured to do, or why that was not tested."""
    table = layer_boxes.harm(seen)
    if table is None:
        return
    (row,) = table[table["id"] == seen.table.at[neuron, "group"]].to_dict("records")
    if not row["tested"]:
        st.caption(plain(row["reason"]))
        return
    loss = format.signed_digits(row["loss_change"])
    said = _("With only this neuron ablated, the loss changes by {loss}").format(loss=loss)
    if row["worst_class"]:
        said += " · " + _("accuracy {all}, {name} {worst}").format(
            all=format.points(row["accuracy_change"]),
            name=plain(row["worst_class"]),
            worst=format.points(row["worst_class_change"]),
        )
    st.markdown(f"{said} :gray[({_('measured on the probe set')})]")
