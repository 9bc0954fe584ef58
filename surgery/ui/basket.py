"""Selections that are kept: save the neurons in hand under a name, take saved ones, join, subtract, invert."""

from __future__ import annotations

import streamlit as st

from surgery.ui import panels, selection
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.scans import Seen
from surgery.ui.selection import How, Ids
from surgery.ui.state import View
from surgery.workspace import Selection


def popover(view: View, ids: Ids, seen: Seen) -> None:
    """Draw the one button behind which selections are kept and changed."""
    with st.popover(_("Selections"), icon=":material/bookmarks:"), panels.panel():
        _change(view, ids, seen)
        _save(view, ids)
        _saved(view, ids, seen)


def _change(view: View, ids: Ids, seen: Seen) -> None:
    with st.container(horizontal=True):
        if st.button(_("Invert"), icon=":material/invert_colors:", help=_("Choose all the others instead")):
            _take(view, selection.invert(ids, seen.ids))
        if st.button(
            _("Clear"), icon=":material/close:", disabled=not ids, help=None if ids else _("No neurons chosen")
        ):
            _take(view, ())


def _save(view: View, ids: Ids) -> None:
    with st.form("save_selection", border=False):
        name = st.text_input(
            _("Save the chosen neurons as"), key="selection_name", placeholder=_("a name"), max_chars=120
        )
        label = plural("Save {count} neuron", "Save {count} neurons", len(ids))
        sent = st.form_submit_button(label, disabled=not ids, help=None if ids else _("Choose neurons first"))
    if sent and view.project is not None and view.version is not None:
        saved = view.workspace.save_selection(view.project.id, view.version.id, name, ids)
        said = _("Saved as {name}.").format(name=plain(saved.name))
        st.toast(said, icon=":material/bookmark_added:")
        st.caption(f":material/bookmark_added: {said}")


def _saved(view: View, ids: Ids, seen: Seen) -> None:
    if view.project is None or view.version is None:
        return
    found = {each.id: each for each in reversed(view.workspace.selections(view.project.id))}
    if not found:
        st.caption(_("No selection is saved in this project yet."))
        return
    chosen = st.selectbox(
        _("Saved selections"), list(found), format_func=lambda id: _named(view, found[id]), key="saved_selection"
    )
    here, lost = view.workspace.map_selection(chosen, view.version.id)
    if lost:
        st.caption(plural("{count} of its neurons is gone here.", "{count} of its neurons are gone here.", len(lost)))
    with st.container(horizontal=True):
        for how, label in _ways():
            if st.button(label, key=f"saved_{how}"):
                _take(view, selection.combine(ids, selection.led(here, seen.leaders), how))
        if st.button("", icon=":material/delete:", type="tertiary", help=_("Delete this saved selection")):
            view.workspace.delete_selection(chosen)
            st.rerun()


def _ways() -> tuple[tuple[How, str], ...]:
    return (("replace", _("Take")), ("add", _("Add")), ("subtract", _("Subtract")))


def _named(view: View, saved: Selection) -> str:
    here = view.version is not None and saved.version == view.version.id
    made = "" if here else f" · {_('made on another version')}"
    return f"{plain(saved.name)} · {len(saved.ids)}{made}"


def _take(view: View, ids: Ids) -> None:
    selection.choose(view, ids)
    st.rerun()
