"""A result that waits for a decision: why it did not become current by itself, and the two ways to decide."""

from __future__ import annotations

import streamlit as st

from surgery.ui import panels, shell, undo
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.workspace import Project, Version, Workspace


def decide(ws: Workspace, project: Project, version: Version, **query: str) -> None:
    """Draw the reason and the buttons of a candidate; nothing for any other version.

    query: what else the page looks at after *Make current*.
    """
    if not version.candidate or version.state != "ready":
        return
    title = _("v{number} is a candidate, not current").format(number=version.number)
    reasons = "\n".join(f"- {plain(reason[:1].upper() + reason[1:])}" for reason in version.candidate)
    with st.container(border=True, key=f"candidate_{version.id}"):
        st.markdown(f":orange[:material/pending: **{title}**]\n{reasons}")
        with st.container(horizontal=True):
            if st.button(
                _("Make current"),
                icon=":material/check_circle:",
                key=f"accept_{version.id}",
                help=_("The version becomes current although it loses more than the project allows."),
            ):
                with panels.panel():
                    ws.make_current(project.id, version.id, revision=project.revision)
                    undo.remember(project, version)
                    shell.look_at(project=project.id, **query)
            if st.button(
                _("Discard v{number}").format(number=version.number),
                icon=":material/delete:",
                key=f"discard_{version.id}",
                help=_("The version is moved to the trash; the current version stays as it is."),
            ):
                with panels.panel():
                    ws.discard(version.id)
                    st.toast(_("v{number} is in the trash.").format(number=version.number), icon=":material/delete:")
                    shell.look_at(project=project.id)


def tolerance(ws: Workspace, project: Project) -> None:
    """Ask how much a result of the project may lose and still become current."""
    with st.form(f"tolerance_{project.id}", border=False):
        drop = st.number_input(
            _("Maximum accuracy drop (pp)"),
            0.0,
            100.0,
            float(project.settings.drop),
            0.5,
            format="%.1f",
            help=_("A result that loses more stays a candidate until someone decides."),
        )
        class_drop = st.number_input(
            _("Maximum drop in any class (pp)"), 0.0, 100.0, float(project.settings.class_drop), 1.0, format="%.1f"
        )
        if st.form_submit_button(_("Save tolerance")):
            ws.set_tolerance(project.id, drop=drop, class_drop=class_drop)
            st.rerun()
