"""The whole model at a glance: its layers, how right it is and where it errs, and the file that other tools draw."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from surgery import charts, jobs
from surgery.jobs import probe
from surgery.ui import (
    coverage,
    export,
    layer_boxes,
    model_quality,
    panels,
    progress,
    scans,
    selection,
    slicing,
    writing,
)
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.scans import Seen
from surgery.ui.state import View
from surgery.workspace import Workspace

BOX, OPEN = "box", "open"  # ?box=: the box that was clicked; ?open=: blocks that are unfolded


def show(view: View, seen: Seen) -> None:
    """Draw the tab *Model* of a version that was scanned."""
    if view.version is None or view.dataset is None:
        return
    with panels.panel():
        with st.spinner(_("Looking at the whole model …")):
            found = ask(view.workspace, view.version.id, view.dataset.id, "quality")
        model_quality.warn(found)
    with panels.panel():
        layer_map(view, seen, ask(view.workspace, view.version.id, view.dataset.id, "wiring"))
        if said := coverage.sentence(view.workspace.inspect(view.version.id)):
            st.caption(plain(said))
    with panels.panel():
        model_quality.show(view, ask(view.workspace, view.version.id, view.dataset.id, "quality"))
    if view.dataset.kind == "text":
        with panels.panel():
            writing.try_out(view)
    st.markdown(f"##### {_('For other tools')}")
    export.onnx(view)


@st.cache_data(max_entries=16, show_spinner=False)
def ask(_ws: Workspace, version: str, dataset: str, what: str) -> dict[str, Any]:
    """The probe's answer about the whole model; the same question is asked once."""
    return probe.ask(_ws, version, dataset, {"what": what})


def layer_map(view: View, seen: Seen, wiring: dict[str, Any]) -> None:
    """The layers as boxes; a click takes a box's neurons in hand."""
    layers = wiring["layers"]
    opened = set(st.query_params.get(OPEN, "").split(",")) - {""}
    inside = layer_boxes.folded([layer["name"] for layer in layers], opened)
    size, (colour, values) = _controls(view, seen)
    boxes = layer_boxes.boxes(layers, inside, values)
    names = boxes["name"].tolist()
    chosen = st.query_params.get(BOX, "")
    figure = charts.layer_map(
        boxes.assign(size=boxes[size]),
        layer_boxes.joined(wiring["edges"], inside, names),
        layer_boxes.joined(wiring["couplings"], inside, names),
        title=_("The network from input to output"),
        colour=colour,
        size=_sizes()[size],
        dark=st.context.theme.type == "dark",
        chosen=names.index(chosen) if chosen in names else None,
    )
    members = {
        name: [layer["name"] for layer, box in zip(layers, inside, strict=True) if box == name] for name in names
    }
    st.plotly_chart(
        figure,
        theme=None,
        config=charts.CONFIG | {"scrollZoom": False},
        key=f"figure_{BOX}",
        on_select=partial(_clicked, view, seen, members),
        selection_mode="points",
        alt=_("Layers from input to output, {size} as height").format(size=_sizes()[size]),
    )
    _below(seen, chosen, members, opened)
    _measure_sensitivity(view, seen)


def _sizes() -> dict[str, str]:
    return {"parameters": _("parameters"), "macs": _("multiply-adds")}


def _controls(view: View, seen: Seen) -> tuple[str, tuple[str, dict[str, float]]]:
    """What the height is, and what the colour is with its numbers by layer."""
    colours: dict[str, dict[str, float]] = {}
    sliced = slicing.of(view)
    if sliced is not None:
        colours[_("effect on the loss")] = layer_boxes.criticality(seen, sliced)
    measured = layer_boxes.sensitivity(seen)
    if measured is not None:
        colours[_("sensitivity")] = measured
    left, right = st.columns(2)
    size = left.segmented_control(
        _("Height"), list(_sizes()), format_func=lambda name: _sizes()[name], default="parameters", required=True
    )
    if not colours:
        right.caption(_("Find slices on the page Slices to colour layers by how critical they are."))
        return str(size), ("", {})
    names = list(colours)
    colour = right.segmented_control(_("Colour"), names, default=names[0], required=True, key="layer_colour")
    return str(size), (str(colour), colours[str(colour)])


def _clicked(view: View, seen: Seen, members: dict[str, list[str]]) -> None:
    """Take the neurons of the clicked box in hand."""
    found = charts.picked(st.session_state.get(f"figure_{BOX}"))
    if found:
        name = list(members)[found[0]]
        st.query_params[BOX] = name
        selection.choose(view, layer_boxes.neurons(seen, members[name]))


def _below(seen: Seen, chosen: str, members: dict[str, list[str]], opened: set[str]) -> None:
    """What was clicked, and blocks to open or to fold again."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if chosen in members:
            count = len(layer_boxes.neurons(seen, members[chosen]))
            said = _("**{name}**: its {count} neurons are in hand.") if count else _("**{name}** gives the answers.")
            st.markdown(said.format(name=plain(chosen), count=f"{count:,}"), width="content")
            if len(members[chosen]) > 1 and st.button(_("Open the block"), icon=":material/unfold_more:"):
                _open(opened | {chosen})
        else:
            st.caption(_("Click a box to take the neurons of that layer in hand."), width="content")
        if opened and st.button(_("Fold all blocks"), icon=":material/unfold_less:"):
            _open(set())


def _open(blocks: set[str]) -> None:
    st.query_params[OPEN] = ",".join(sorted(blocks))
    st.rerun()


def _measure_sensitivity(view: View, seen: Seen) -> None:
    """Offer the job that silences neurons one by one, until all that can be tested are; each goes on from the last."""
    left = layer_boxes.unmeasured(seen)
    if not left or view.version is None or view.dataset is None or not view.project:
        return
    task = {
        "kind": "sensitivity",
        "version": view.version.id,
        "dataset": view.dataset.id,
        "params": scans.PARAMETERS,
    }
    if progress.watch_latest(view.workspace, view.project.id, task):
        return
    label = plural("Measure the harm of {count} neuron", "Measure the harm of {count} neurons", left)
    help = _("Silences them one by one, for at most five minutes at a time; what is measured is kept.")
    if st.button(label, icon=":material/vital_signs:", key="start_sensitivity", help=help):
        title = _("Sensitivity of v{number}").format(number=view.version.number)
        jobs.submit(view.workspace, task, project=view.project.id, title=title)
        st.rerun()
