"""Find neurons by class, name, layer, id or rule: one field, whose finds are taken in hand."""

from __future__ import annotations

import streamlit as st

from surgery.analysis import query
from surgery.ui import selection, slicing
from surgery.ui.messages import _
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids
from surgery.ui.state import View

DONE = "surgery.found"


def box(view: View, seen: Seen) -> None:
    """Draw the field; what was newly typed is taken in hand.

    Raises:
        SelectionError: it cannot be read, or names what does not exist.
    """
    text = st.text_input(
        _("Find"),
        key="find",
        type="search",
        placeholder=_("class, name, layer, id or rule"),
        help=_(
            "Ids and ranges: `3, 7-12, 40`. A class, a layer, the name of a neuron, or a rule: "
            "`layer3 and critical(cat) < 0.1`, `not cat and active > 0.5`, `dead`, `unclear`. "
            "critical(cat) is the share of the neuron's layer that matters less to the class."
        ),
    )
    text = (text or "").strip()
    if st.session_state.get(DONE, "") == text:
        return
    st.session_state[DONE] = text
    if not text:
        return
    found = find(view, seen, text)
    if found:
        selection.choose(view, found)
    else:
        st.info(_("No neuron fits this."), icon=":material/search_off:")


def find(view: View, seen: Seen, text: str) -> Ids:
    """The neurons that ids or a rule describe, among those that can be chosen.

    Raises:
        SelectionError: it cannot be read.
    """
    if not any(letter.isalpha() for letter in text):
        return selection.parse(text, seen.leaders)
    by_class: dict[str, query.OnClass] = {"mean": seen.means_on}
    sliced = slicing.of(view)
    if sliced is not None:
        layers = seen.points["layer"].to_numpy(dtype=object)
        ranks = query.layer_ranks(layers, sliced.scores["taylor"].astype(float))
        by_class["critical"] = lambda place: ranks[:, place]
    found = query.find(text, query.Neurons(seen.points, seen.classes, by_class))
    return tuple(seen.points["id"].to_numpy()[found].tolist())
