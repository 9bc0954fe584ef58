"""Selections that are kept: save the neurons in hand under a name, take saved ones, join, subtract, invert, paste."""

from __future__ import annotations

import streamlit as st

from surgery.analysis import query
from surgery.ui import panels, selection, slicing
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
        _paste(view, ids, seen)


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
        st.toast(_("Saved as {name}.").format(name=plain(saved.name)), icon=":material/bookmark_added:")
        st.rerun()


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


def _paste(view: View, ids: Ids, seen: Seen) -> None:
    with st.form("paste_ids", border=False):
        text = st.text_input(
            _("Neuron ids or a rule"),
            value=selection.spell(ids),
            key="pasted",
            help=_(
                "Ids and ranges: 3, 7-12, 40. A class, a layer, or a rule: "
                "`layer3 and critical(cat) < 0.1`, `not cat and active > 0.5`, `dead`. "
                "critical(cat) is the share of the neuron's layer that matters less to the class."
            ),
        )
        sent = st.form_submit_button(_("Choose these"))
    if not sent:
        return
    if not any(letter.isalpha() for letter in text):
        _take(view, selection.parse(text, seen.leaders))
    found = ruled(view, seen, text)
    if found:
        _take(view, found)
    st.info(_("No neuron fits this rule."), icon=":material/search_off:")


def ruled(view: View, seen: Seen, rule: str) -> Ids:
    """The neurons that a rule describes, among those that can be chosen.

    Raises:
        SelectionError: the rule cannot be read.
    """
    by_class = {"mean": seen.mean[list(seen.ids)].astype(float)}
    sliced = slicing.of(view)
    if sliced is not None:
        layers = seen.points["layer"].to_numpy(dtype=object)
        by_class["critical"] = query.layer_ranks(layers, sliced.scores["taylor"].astype(float))
    found = query.find(rule, query.Neurons(seen.points, seen.classes, by_class))
    return tuple(seen.points["id"].to_numpy()[found].tolist())


def _ways() -> tuple[tuple[How, str], ...]:
    return (("replace", _("Take")), ("add", _("Add")), ("subtract", _("Subtract")))


def _named(view: View, saved: Selection) -> str:
    here = view.version is not None and saved.version == view.version.id
    made = "" if here else f" · {_('made on another version')}"
    return f"{plain(saved.name)} · {len(saved.ids)}{made}"


def _take(view: View, ids: Ids) -> None:
    selection.choose(view, ids)
    st.rerun()
