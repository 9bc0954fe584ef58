"""Widgets for what only the project knows: its versions, its devices, its saved selections.

`pickers(...)` hands them to the form of an operation, which asks for a picker by field type.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from pydantic.fields import FieldInfo

from surgery.jobs.devices import devices
from surgery.operations.base import Selection
from surgery.ui import selection
from surgery.ui.form import Widget
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Version

IN_HAND = "in hand"
SAVED = "selection"  # ?selection=<id of a saved one>
CLASSES = "class"  # ?class=cat&class=dog


def version_name(version: Version) -> str:
    """How a version is called wherever one is chosen: `v2 · without cluster 3`."""
    return f"v{version.number} · {version.name}"


def version(view: View, label: str, *, key: str, default: str | None = None) -> Version | None:
    """Choose one version of the project, the newest first."""
    found = {each.id: each for each in reversed(view.workspace.versions(view.project.id if view.project else ""))}
    ids = list(found)
    place = ids.index(default) if default in ids else 0
    chosen = st.selectbox(label, ids, index=place, format_func=lambda id: version_name(found[id]), key=key)
    return found.get(chosen or "")


def device(view: View, *, key: str) -> str:
    """Choose where a job runs; a GPU comes first where there is one."""
    found = devices(view.workspace.home)
    return str(st.selectbox(_("Device"), found, key=key, help=_("Stored in the plan. One job at a time on each.")))


def neurons(view: View, ids: selection.Ids) -> Widget:
    """Choose between the neurons in hand (`ids`) and the saved selections, carried to this version.

    The saved one that the URL names is chosen at first, and what is chosen goes into the URL.
    """

    def draw(label: str, field: FieldInfo, key: str) -> Selection:
        offered = _offered(view, ids)
        if not field.is_required():
            offered = {"": (_("None"), ()), **offered}
        if not offered:
            st.info(_("No neurons are chosen yet."), icon=":material/scatter_plot:")
            return Selection()
        linked = st.query_params.get(SAVED, "") if field.is_required() else ""
        chosen = st.selectbox(
            label,
            list(offered),
            index=list(offered).index(linked) if linked in offered else 0,
            format_func=lambda id: _spoken(*offered[id]),
            key=f"{key}_{linked}",
            help=field.description,
        )
        return Selection(ids=offered[chosen][1])

    return draw


def classes(view: View) -> Widget:
    """Choose among the classes that the version on view knows; at first those that the URL names."""

    def draw(label: str, field: FieldInfo, key: str) -> tuple[str, ...]:
        known = view.workspace.inspect(view.version.id)["classes"] if view.version else []
        linked = [name for name in st.query_params.get_all(CLASSES) if name in known]
        chosen = st.multiselect(label, known, default=linked, key=key, help=field.description)
        st.query_params[CLASSES] = chosen
        return tuple(chosen)

    return draw


def pickers(view: View, ids: selection.Ids) -> Mapping[object, Widget]:
    """The pickers an operation's form may ask for, by field type."""
    return {Selection: neurons(view, ids), tuple[str, ...]: classes(view)}


def _offered(view: View, ids: selection.Ids) -> dict[str, tuple[str, selection.Ids]]:
    """Id -> (name, neurons that exist on the version on view); saved ones first where the URL names one."""
    offered = {IN_HAND: (_("Chosen on the map"), ids)} if ids else {}
    if view.project is None or view.version is None:
        return offered
    for saved in reversed(view.workspace.selections(view.project.id)):
        here, _lost = view.workspace.map_selection(saved.id, view.version.id)
        if here:
            offered[saved.id] = (saved.name, tuple(here))
    return offered


def _spoken(name: str, ids: selection.Ids) -> str:
    if not ids:
        return plain(name)
    return f"{plain(name)} · " + plural("{count} neuron", "{count} neurons", len(ids))
