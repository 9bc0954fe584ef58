"""The parts of the page Versions: undo, the lineage, one version's actions, its receipt, the trash."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from surgery import jobs, standing
from surgery.errors import NotFoundError
from surgery.tell import tell
from surgery.ui import all_versions, comparison, export, format, home, panels, progress, results, shell, undo
from surgery.ui.lineage import tree
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Project, Version, Workspace

NAMED = 6  # classes in a sentence


def steps(ws: Workspace, project: Project) -> None:
    """Undo and redo, and the proof of the last step."""
    with st.container(horizontal=True):
        undo.undo(ws, project)
        undo.redo(ws, project)
    undo.proof(ws, project)


def lineage_table(view: View) -> None:
    """Show every version below its parent; the chosen row is the version on view."""
    ws, project, version = view.workspace, view.project, view.version
    if project is None or version is None:
        return
    nodes = tree(ws.versions(project.id))
    ids = [node.version.id for node in nodes]
    table = pd.DataFrame([_row(ws, node.branches, node.version, project) for node in nodes])
    if (quality := all_versions.known(view)) is not None:
        table.insert(1, quality.heading, [quality.texts.get(id, "–") for id in ids])
    event = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [ids.index(version.id)], "columns": [], "cells": []}},
        key=f"lineage_{version.id}_{len(ids)}",
        column_config={_("Version"): st.column_config.TextColumn(width="medium")},
        alt=_("Versions of the project, children below their parent"),
    )
    rows = event["selection"]["rows"]
    if rows and ids[rows[0]] != version.id:
        chosen = ids[rows[0]]
        shell.look_at(project=project.id, **({} if chosen == project.current else {"version": chosen}))


def _row(ws: Workspace, branches: str, version: Version, project: Project) -> dict[str, str]:
    mark = _(" · current") if version.id == project.current else ""
    mark += _(" · candidate") if version.candidate else ""
    mark += _(" · quarantined") if version.state == "damaged" else ""
    return {
        _("Version"): f"{branches}v{version.number} {version.name}{mark}",
        _("Operation"): version.operation,
        _("Parameters"): format.amount(version.parameters),
        _("Neurons"): format.amount(version.neurons) if version.neurons else "–",
        _("Size"): format.size(version.bytes),
        _("Date (UTC)"): f"{version.created:%Y-%m-%d %H:%M}",
        _("Author"): (ws.author(version.id) if version.state == "ready" else "") or "–",
    }


def heading(view: View) -> None:
    """Name the version on view, with its digest."""
    version = view.version
    if version is None or view.project is None:
        return
    st.markdown(f"##### v{version.number} {plain(version.name)}")
    facts = [version.operation, f"{version.created:%Y-%m-%d %H:%M} UTC", format.size(version.bytes)]
    st.caption(" · ".join(plain(fact) for fact in facts))
    st.caption(f"`{version.digest[:23]}…`", help=version.digest)


def parts(view: View) -> None:
    """The parts that lie in the version on view, each to be taken out as a version of its own."""
    ws, version, project = view.workspace, view.version, view.project
    if version is None or project is None or version.state == "damaged":
        return
    for place, part in enumerate(ws.parts(version.id)):
        if part["figures"]:  # a module, which lies on the shelf
            continue
        classes = ", ".join(part["classes"][:NAMED]) + (" …" if len(part["classes"]) > NAMED else "")
        st.markdown(
            _(":material/layers: Holds the slice of {classes}, exactly: {share} of the neurons").format(
                classes=plain(classes), share=format.percent(len(part["neurons"]) / part["of"])
            )
        )
        task = {"kind": "take_out", "version": version.id, "part": place}
        if progress.watch_latest(ws, project.id, task):
            continue
        if st.button(_("Take it out as a version"), icon=":material/output:", key=f"take_out_{version.id}_{place}"):
            with panels.panel():
                jobs.submit(ws, task, project=project.id, title=_("Slice of {classes}").format(classes=classes))
                st.rerun()


def actions(view: View) -> None:
    """Make current, rename, delete, verify; a candidate is decided above."""
    ws, version, project = view.workspace, view.version, view.project
    if version is None or project is None:
        return
    is_current = version.id == project.current
    why = _("This version is current; make another one current first.") if is_current else None
    damaged = version.state == "damaged"
    unfit = _("This version is quarantined: its files have changed.") if damaged else why
    with st.container(horizontal=True):
        if not version.candidate and st.button(
            _("Make current"),
            icon=":material/check_circle:",
            type="primary",
            disabled=is_current or damaged,
            help=unfit,
        ):
            with panels.panel():
                ws.make_current(project.id, version.id, revision=project.revision)
                undo.remember(project, version)
                shell.look_at(project=project.id)
        with st.popover(_("Rename"), icon=":material/edit:"):
            _rename(ws, version)
        if not version.candidate and st.button(
            _("Move to trash"), icon=":material/delete:", disabled=is_current, help=why
        ):
            with panels.panel():
                ws.trash_version(version.id)
                shell.look_at(project=project.id)
        with st.popover(_("Export"), icon=":material/download:"):
            export.draw(view)
        if st.button(_("Verify"), icon=":material/verified:", help=_("Recompute the digest from the bytes on disk")):
            with panels.panel():
                ws.verify(version.id)
                st.toast(_("Checksum verified."), icon=":material/verified:")


def _rename(ws: Workspace, version: Version) -> None:
    with st.form("rename_version", border=False):
        name = st.text_input(_("Name"), value=version.name, max_chars=120)
        if st.form_submit_button(_("Save name"), type="primary"):
            with panels.panel():
                ws.rename_version(version.id, name)
                st.rerun()


def receipt(view: View) -> None:
    """Show what the surgery that made the version on view did, measured before and after."""
    ws, version, project = view.workspace, view.version, view.project
    if version is None or project is None or version.state == "damaged":
        return
    found = standing.receipt_of(ws, version)
    if found is None:
        st.caption(_("This version was imported; a version made by a surgery shows its receipt here."))
        return
    parent = _name(ws, version.parent) if version.parent else _("Before")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"##### {_('Receipt')}", width="stretch")
        if st.button(_("See before/after"), icon=":material/compare_arrows:"):
            shell.go("compare", view)
        results.download(ws, found, version, parent)
    results.sentences(tell(found))
    table = comparison.overall(found.table, parent, _("This version"))
    st.table(table, border="horizontal", hide_index=True, alt=_("Before and after the surgery"))


def _name(ws: Workspace, id: str) -> str:
    """The name of a version, also of one that was deleted for good."""
    try:
        version = ws.version(id)
    except NotFoundError:
        return _("Before")
    return plain(f"v{version.number} {version.name}")


def trash(ws: Workspace, project: Project, versions: Sequence[Version]) -> None:
    """Offer each deleted version for restoring, and to erase them all."""
    for version in versions:
        name, action = st.columns([8, 2], vertical_alignment="center")
        name.markdown(f"v{version.number} {plain(version.name)} · {format.size(version.bytes)}")
        if action.button(_("Restore"), icon=":material/restore_from_trash:", key=f"restore_{version.id}"):
            with panels.panel():
                ws.restore_version(version.id)
                st.rerun()
    home.empty_trash_button(ws, project.id)


def events(ws: Workspace, project: Project) -> None:
    """Show who did what to which bytes, newest first."""
    rows = [
        {
            _("When (UTC)"): f"{event.when:%Y-%m-%d %H:%M:%S}",
            _("Who"): event.who,
            _("What"): event.what,
            _("Digest"): (event.digest or "–")[:19],
        }
        for event in ws.events(project.id, 200)
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt=_("Activity log of this project"))
