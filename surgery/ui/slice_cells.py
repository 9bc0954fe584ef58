"""Slices as two grids whose cells can be clicked: how much of a layer a class needs, and what two classes share."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.analysis.overlap import Members, jaccard
from surgery.ui import taking
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.slicing import Cut, Sliced
from surgery.ui.state import View

CELL, PAIR = "cell", "pair"  # ?cell=, ?pair=: what was clicked in the two grids


def layers(view: View, sliced: Sliced, members: Members, cut: Cut) -> None:
    """Layers over classes; a click on a cell offers the neurons of that layer that the class needs."""
    classes = list(sliced.seen.classes)
    names, shares = sliced.shares(members)
    chosen = taking.clicked(CELL, shares.size)
    figure = charts.cells(
        shares,
        names,
        classes,
        title=_("How much of each layer a class needs"),
        axes=(_("class"), _("layer, first on top")),
        hover=_("%{x} needs %{text} % of the neurons of %{y}"),
        dark=st.context.theme.type == "dark",
        chosen=chosen,
        room=len(classes),
    )
    _draw(figure, CELL, _("Share of every layer's neurons that each class needs"))
    if chosen is None:
        st.caption(_("Click a cell to take the neurons of that layer which that class needs."))
    else:
        layer, place = names[chosen // len(classes)], chosen % len(classes)
        own = members[:, place] & (sliced.seen.points["layer"].to_numpy() == layer)
        st.markdown(
            _("**{name}** needs **{count}** neurons of **{layer}**.").format(
                name=plain(classes[place]), count=int(own.sum()), layer=plain(layer)
            )
        )
        saved = f"{classes[place]}: {layer} · Θ {cut.theta:.3f}"
        taking.offer(view, sliced.ids(own), saved, key=CELL)
    frame = pd.DataFrame(shares, index=pd.Index(names, name="layer"), columns=classes)
    st.download_button(_("Table as CSV"), frame.to_csv(), "slices.csv", "text/csv", icon=":material/download:")


def pairs(view: View, sliced: Sliced, members: Members, cut: Cut) -> None:
    """Classes over classes; a click on a cell offers the neurons that both need."""
    classes = list(sliced.seen.classes)
    shared = jaccard(members)
    chosen = taking.clicked(PAIR, shared.size)
    figure = charts.cells(
        _lower(shared),
        classes,
        classes,
        title=_("How much two classes share"),
        hover=_("%{y} and %{x} share %{text} % of the neurons that either needs"),
        dark=st.context.theme.type == "dark",
        chosen=chosen,
        room=len(sliced.shares(members)[0]),
    )
    _draw(figure, PAIR, _("Overlap of the neurons of every two classes"))
    if chosen is None or chosen // len(classes) <= chosen % len(classes):
        st.caption(_("Click a cell to take the neurons that both classes need."))
        return
    one, other = divmod(chosen, len(classes))
    both = members[:, one] & members[:, other]
    st.markdown(
        _("**{one}** and **{other}** both need **{count}** neurons.").format(
            one=plain(classes[one]), other=plain(classes[other]), count=int(both.sum())
        )
    )
    saved = _("{one} and {other}: shared").format(one=classes[one], other=classes[other])
    taking.offer(view, sliced.ids(both), f"{saved} · Θ {cut.theta:.3f}", key=PAIR)


def _lower(shared: np.ndarray) -> np.ndarray:
    """Only the half below the diagonal: each pair once, and no class with itself."""
    return np.where(np.tri(len(shared), k=-1, dtype=bool), shared, np.nan)


def _draw(figure: charts.Figure, name: str, words: str) -> None:
    st.plotly_chart(
        figure,
        theme=None,
        config=charts.CONFIG | {"scrollZoom": False},
        key=f"figure_{name}",
        on_select=partial(taking.remember, name),
        selection_mode="points",
        alt=words,
    )
