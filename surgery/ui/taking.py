"""Some neurons that a figure or a table speaks of: take them in hand, or save them under a name."""

from __future__ import annotations

import streamlit as st

from surgery import charts
from surgery.ui import selection, shell
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.selection import Ids
from surgery.ui.state import View


def offer(view: View, ids: Ids, name: str, *, key: str) -> None:
    """Two buttons: take `ids` to the map, save them as `name`. Without ids both say why they do nothing."""
    reason = None if ids else _("There are none at this threshold.")
    with st.container(horizontal=True):
        take(
            view, ids, plural("Take {count} neuron", "Take {count} neurons", len(ids)), reason=reason, key=f"take_{key}"
        )
        save = st.button(
            _("Save as selection"),
            icon=":material/bookmark_add:",
            disabled=not ids,
            help=reason or _("Saved as {name}").format(name=plain(name)),
            key=f"save_{key}",
        )
    if save and view.project is not None and view.version is not None:
        saved = view.workspace.save_selection(view.project.id, view.version.id, name, ids)
        st.toast(_("Saved as {name}.").format(name=plain(saved.name)), icon=":material/bookmark_added:")


def take(view: View, ids: Ids, label: str, *, reason: str | None = None, key: str) -> None:
    """A button that takes neurons in hand and shows them on the map."""
    if st.button(label, icon=":material/filter_alt:", disabled=not ids, help=reason, key=key):
        selection.choose(view, ids)
        shell.go("neurons", view, **{name: value for name, value in st.query_params.items() if name == "neurons"})


def clicked(name: str, count: int) -> int | None:
    """The cell or box of figure `name` that the URL says was clicked, of `count`."""
    text = st.query_params.get(name, "")
    place = int(text) if text.isdecimal() else count
    return place if place < count else None


def remember(name: str) -> None:
    """Put what was clicked in the figure with key `name` into the URL; to be called when it reports a selection."""
    found = charts.picked(st.session_state.get(f"figure_{name}"))
    if found:
        st.query_params[name] = str(found[0])
