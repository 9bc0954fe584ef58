"""Undo and redo wherever they stand: each button names the version that becomes current, or says why it cannot act."""

from __future__ import annotations

import streamlit as st

from surgery.ui import panels, shell
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.workspace import Project, Version, Workspace

_PROOF = "surgery.proof"  # what the last step in this tab did, told once below the buttons


def undo(ws: Workspace, project: Project, *, only: Version | None = None, **query: str) -> None:
    """Offer to take back what last changed the current version; only: of this version, on a page about it.

    query: what else the page looks at afterwards.
    """
    target = _find(ws, ws.undo_target(project.id))
    why = _blocked(target) or _("Nothing to undo: this is where the project began.")
    if only is not None and only.id != project.current:
        target, why = None, _("v{number} is not current: there is nothing to undo.").format(number=only.number)
    label = _("Undo") if target is None else _("Undo: back to v{number}").format(number=target.number)
    if _button(label, target, why, icon=":material/undo:", shortcut="Ctrl+Z", key="undo"):
        _step(ws, project, -1, query)


def redo(ws: Workspace, project: Project) -> None:
    """Offer to take back an undo."""
    target = _find(ws, ws.redo_target(project.id))
    label = _("Redo") if target is None else _("Redo: forward to v{number}").format(number=target.number)
    why = _blocked(target) or _("Nothing to redo.")
    if _button(label, target, why, icon=":material/redo:", shortcut="Ctrl+Shift+Z", key="redo"):
        _step(ws, project, +1, {})


def _button(label: str, target: Version | None, why: str, *, icon: str, shortcut: str, key: str) -> bool:
    """A button that makes a version current; without one that can be, it is disabled and says why."""
    usable = target is not None and not _blocked(target)
    help = _makes_current(target) if target and usable else why
    return st.button(label, icon=icon, shortcut=shortcut, disabled=not usable, help=help, key=key)


def remember(project: Project, version: Version) -> None:
    """Let the page that is drawn next prove that a version became current as it was committed."""
    st.session_state[_PROOF] = (project.id, version.id)


def proof(ws: Workspace, project: Project) -> None:
    """After a step: the checksum recomputed from the files beside the one noted when the version was committed."""
    done, current = st.session_state.get(_PROOF, (None, None))
    if done != project.id or current != project.current or current is None:
        return
    with panels.panel():
        version, found = ws.version(current), ws.verify(current)
        st.success(
            _("Version {number} “{name}” is current again, byte for byte.").format(
                number=version.number, name=plain(version.name)
            )
            + "\n\n"
            + _("Recomputed from the files just now: `{found}`").format(found=found)
            + "  \n"
            + _("Noted when it was committed: `{noted}`").format(noted=version.digest),
            icon=":material/verified:",
        )


def _find(ws: Workspace, id: str | None) -> Version | None:
    return None if id is None else ws.version(id)


def _blocked(target: Version | None) -> str:
    """Why a version cannot become current; "" where it can, or where there is none."""
    if target is None or target.state == "ready":
        return ""
    return {
        "trash": _("v{number} is in the trash: restore it on Versions first."),
        "damaged": _("v{number} is quarantined: its files have changed since they were committed."),
    }[target.state].format(number=target.number)


def _makes_current(target: Version) -> str:
    return _("Makes version {number} “{name}” current.").format(number=target.number, name=plain(target.name))


def _step(ws: Workspace, project: Project, by: int, query: dict[str, str]) -> None:
    with panels.panel():
        move = ws.undo if by < 0 else ws.redo
        now = move(project.id, revision=project.revision)
        st.session_state[_PROOF] = (project.id, now.current)
        shell.look_at(project=project.id, **query)
