"""The map of neurons as a control: a click or a lasso takes neurons in hand, a legend row takes all of its group.

The figure itself forgets: drawn with another look it is a new element to Streamlit, without its selection. So the ids
in hand rule, and the figure paints them itself (`painted`) unless its own last event says the very same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.charts import Legend, Mode
from surgery.ui import search, selection
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.places import Places
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids
from surgery.ui.state import View

HEIGHT = 500
NAMED = ("top_class", "cluster", "layer")  # columns that name; the others are scores
STATE = "surgery.map"


@dataclass
class Drawn:
    """What this session last drew and heard: the ids that the figure paints itself, its key, its last event."""

    painted: Ids = ()
    event: Ids = ()
    key: str = ""
    turn: int = 0  # a new turn is a new element, without the selection of the old one
    figure: charts.NeuronMap | None = None  # as it was built for `built`: a click alone builds nothing
    built: str = ""
    colour: Legend | list[float] = field(default_factory=list)  # of every point, as it was found for `coloured`
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)  # label of the legend -> its neurons
    coloured: str = ""


@dataclass(frozen=True)
class Look:
    """How the map is drawn: coloured by which column, what a drag does, on which theme."""

    by: str
    mode: Mode
    dark: bool


@dataclass(frozen=True)
class Map:
    """The map as it is to be drawn in this run, and the neurons in hand."""

    ids: Ids
    look: Look
    colour: Legend | list[float]
    drawn: Drawn


def controls(view: View, seen: Seen, places: Places) -> Map:
    """Draw the controls and the legend, and hear what the map reported; the map itself can wait."""
    look = _controls(view, seen)
    drawn: Drawn = st.session_state.setdefault(STATE, Drawn())
    ids = _hear(view, seen, places.final, look, drawn)
    _colour(seen, places, look.by, drawn)
    if isinstance(drawn.colour, Legend):
        _legend(view, drawn.colour, drawn.groups, ids)
    return Map(ids, look, drawn.colour, drawn)


def draw(seen: Seen, places: Places, shown: Map) -> None:
    """Draw the map."""
    drawn = shown.drawn
    if drawn.figure is None or drawn.built != drawn.key:
        drawn.figure = _figure(seen, places, shown.colour, shown.look, drawn.painted)
        drawn.built = drawn.key
    st.plotly_chart(
        drawn.figure,
        theme=None,
        key=drawn.key,
        on_select="rerun",
        selection_mode=("points", "lasso"),
        config=charts.CONFIG,
        alt=_("Map of {count} neurons, near means alike").format(count=len(seen.points)),
    )


def looks(seen: Seen) -> dict[str, str]:
    """Column -> what to call it: everything the points can be coloured by; the first is the default."""
    named = {
        "top_class": _("Range of the target") if seen.ranges else _("Class"),
        "cluster": _("Cluster"),
        "layer": _("Layer"),
    }
    scores = {"selectivity": _("Selectivity"), "active": _("Share active"), "mean": _("Mean activation")}
    return {column: name for column, name in (named | scores).items() if column in seen.table}


def colouring(seen: Seen, places: Places, by: str) -> Legend | list[float]:
    """The colour of every point: a legend for names, numbers for scores."""
    if by not in NAMED:
        return [float(value) for value in seen.points[by]]
    if by == "layer":
        shown = charts.stages(list(dict.fromkeys(seen.table["layer"])))
        colours = charts.ordered_colours(list(dict.fromkeys(shown.values())))
        return charts.legend([shown[name] for name in seen.points["layer"]], colours)
    if by == "cluster":
        labels = places.at["cluster"].iloc[list(seen.ids)].tolist()
        return charts.legend(labels, cluster_colours(labels, seen.colours))
    colours = seen.colours | {_("no class"): charts.GROUPED}
    return charts.legend([name or _("no class") for name in seen.points["top_class"]], colours)


def cluster_colours(labels: Sequence[str], colours: Mapping[str, str]) -> dict[str, str]:
    """A cluster that answers to one class has the colour of that class; the others take the next ones."""
    single = {f"Answers to {name}": colour for name, colour in colours.items()}
    others = sorted(set(labels) - set(single))
    further = charts.class_colours([*colours, *others])
    return single | {label: further[label] for label in others}


def _colour(seen: Seen, places: Places, by: str, drawn: Drawn) -> None:
    """Find colours and legend once, not at every click: thousands of points take a while."""
    key = f"{seen.folder.name}-{places.final}-{places.source}-{by}"
    if drawn.coloured == key:
        return
    drawn.colour, drawn.coloured = colouring(seen, places, by), key
    drawn.groups = {}
    if isinstance(drawn.colour, Legend):
        ids = np.asarray(seen.ids)
        drawn.groups = {label: tuple(ids[drawn.colour.places(label)].tolist()) for label in drawn.colour.colours}


def _controls(view: View, seen: Seen) -> Look:
    named = looks(seen)
    words = {"click": _("Click"), "lasso": _("Lasso")}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.selectbox(
            _("Colour by"), list(named), format_func=named.__getitem__, key="colour", bind="query-params", width=150
        )
        mode = st.segmented_control(
            _("Select with"), list(words), default="click", required=True, format_func=words.__getitem__, key="mode"
        )
        with st.container(width="stretch"):
            search.box(view, seen)
    return Look(by, "lasso" if mode == "lasso" else "click", st.context.theme.type == "dark")


def _hear(view: View, seen: Seen, final: bool, look: Look, drawn: Drawn) -> Ids:
    """Take in hand what the chart reports, and decide what the figure has to paint itself."""
    ids = selection.chosen(view, seen.leaders)
    event: Ids = ()
    if drawn.key == _key(seen, final, look, drawn.turn):
        event = charts.picked(st.session_state.get(drawn.key))
        if event != drawn.event:
            ids = event
            selection.choose(view, ids)
    if (event or drawn.painted) != ids:  # what the figure shows; it may have painted those of another version
        drawn.painted, drawn.turn, event = ids, drawn.turn + 1, ()
    drawn.event, drawn.key = event, _key(seen, final, look, drawn.turn)
    selection.show_in_url(ids)
    return ids


def _key(seen: Seen, final: bool, look: Look, turn: int) -> str:
    """Names one drawn figure; a figure with another look is another element."""
    return f"map-{seen.folder.name}-{final}-{look.by}-{look.mode}-{look.dark}-{turn}"


def _legend(view: View, colour: Legend, groups: Mapping[str, Ids], ids: Ids) -> None:
    """A row for every label with its colour and count; choosing rows takes all their neurons in hand."""
    chosen = set(ids)
    inside = [label for label, members in groups.items() if len(members) <= len(chosen) and chosen.issuperset(members)]
    whole = len(chosen) == sum(len(groups[label]) for label in inside)
    st.session_state["legend"] = inside if whole else []
    st.html(_swatches(colour))

    def take() -> None:
        selection.choose(view, [i for label in st.session_state["legend"] for i in groups[label]])

    st.pills(
        _("Take all neurons of"),
        list(groups),
        selection_mode="multi",
        format_func=lambda label: f"{plain(label)} :gray[{len(groups[label])}]",
        key="legend",
        wrap=True,
        on_change=take,
    )


def _swatches(colour: Legend) -> str:
    """A dot in the colour of each legend row; the row's words carry the meaning without it."""
    dots = "".join(
        f".st-key-legend button:nth-of-type({place}) p::before{{background:{shade}}}"
        for place, shade in enumerate(colour.colours.values(), start=1)
    )
    dot = "content:'';display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.45em"
    return f"<style>.st-key-legend button p::before{{{dot}}}{dots}</style>"


def _figure(seen: Seen, places: Places, colour: Legend | list[float], look: Look, painted: Ids) -> charts.NeuronMap:
    at = places.at.iloc[list(seen.ids)]
    points = pd.DataFrame({"id": seen.ids, "x": at["x"].to_numpy(), "y": at["y"].to_numpy(), "text": seen.spoken})
    title = _("{neurons} by {what} · near means alike").format(
        neurons=plural("{count} neuron", "{count} neurons", len(points)), what=looks(seen)[look.by].lower()
    )
    if places.inherited:
        title += " · " + plural("× {count} removed", "× {count} removed", len(places.gone))
    return charts.neuron_map(
        points,
        colour,
        title=title,
        selected=painted,
        mode=look.mode,
        dark=look.dark,
        ghosts=places.gone,
        height=HEIGHT,
    )
