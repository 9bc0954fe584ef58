"""The frame of every page: the menu, the way in, the query of the URL.

Each page starts with `view = shell.page("neurons", needs=("version",))`. Before anything else that guards the way
in: on a fresh server Streamlit runs the file of a deep-linked page directly, past app.py with its menu and its
check that the gate stands. A page that was not entered through app.py therefore declares the navigation and runs
again from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from surgery.ui import panels, progress, state
from surgery.ui.messages import _
from surgery.ui.state import View

_entered: ContextVar[bool] = ContextVar("entered", default=False)  # in this run, app.py came first


@dataclass(frozen=True)
class Entry:
    """One page in the menu; its file is `pages/<name>.py` and its address `/<name>`, Home's is `/`."""

    name: str
    group: str
    title: str
    icon: str
    question: str

    @property
    def path(self) -> str:
        """Return the file of the page, relative to app.py."""
        return f"pages/{self.name}.py"


def entries() -> tuple[Entry, ...]:
    """Return all pages in the order of the menu."""
    start, look, change, decide = _("Start"), _("Look"), _("Change"), _("Decide")
    return (
        Entry("home", start, _("Home"), "home", _("What can I do?")),
        Entry("model_data", start, _("Model & data"), "database", _("Did it understand my model and data?")),
        Entry("neurons", look, _("Neurons"), "scatter_plot", _("What does each neuron do?")),
        Entry("slices", look, _("Slices"), "view_week", _("Which neurons carry which class?")),
        Entry("modules", look, _("Modules"), "extension", _("What modules does this model contain?")),
        Entry("similarity", look, _("Similarity"), "hub", _("What could models share?")),
        Entry("must_keep", look, _("Must keep"), "verified", _("Which cases must never break?")),
        Entry("change", change, _("Change"), "content_cut", _("What will this surgery do, and do it.")),
        Entry("jobs", change, _("Jobs"), "pending_actions", _("What is running?")),
        Entry("compare", decide, _("Compare"), "compare_arrows", _("Did it work?")),
        Entry("versions", decide, _("Versions"), "account_tree", _("How did we get here, how do we go back?")),
    )


def navigation() -> st.Page:
    """Declare the menu and return the page that the URL names."""
    menu: dict[str, list[st.Page]] = {}
    for entry in entries():
        menu.setdefault(entry.group, []).append(
            st.Page(
                entry.path,
                title=entry.title,
                icon=f":material/{entry.icon}:",
                url_path=entry.name,
                default=entry.name == "home",
                help=entry.question,
            )
        )
    return st.navigation(menu)


def run(page: st.Page) -> None:
    """Run the page; only app.py does, after the menu is declared and the gate is known to stand."""
    token = _entered.set(True)
    try:
        page.run()
    finally:
        _entered.reset(token)


def page(name: str, *, needs: Sequence[str] = ()) -> View:
    """Begin page `name` and return what it looks at.

    needs: of "project", "version", "dataset"; where one is missing the page says so, offers the way there, and stops.
    """
    if not _entered.get():
        navigation()
        st.rerun()
    view = state.current()
    entry = next(entry for entry in entries() if entry.name == name)
    st.markdown(f"### {entry.title}", help=entry.question)
    for need in needs:
        if getattr(view, need) is None:
            _missing(view, need)
    return view


def _missing(view: View, need: str) -> NoReturn:
    if view.project is not None and progress.watch_latest(view.workspace, view.project.id, {"kind": "open_sample"}):
        st.stop()  # what is missing is on its way
    texts = {
        "project": _("There is no project yet."),
        "version": _("This project has no model yet."),
        "dataset": _("This project has no dataset yet."),
    }
    panels.empty(texts[need])
    target = "home" if need == "project" else "model_data"
    label = _("Go to Home") if need == "project" else _("Go to Model & data")
    if st.button(label, type="primary", icon=":material/arrow_forward:", key=f"missing_{need}"):
        go(target)
    st.stop()


def go(name: str, view: View | None = None, **query: str) -> NoReturn:
    """Open page `name` on the same project and version, with further query parameters."""
    path = next(entry.path for entry in entries() if entry.name == name)
    st.switch_page(path, query_params={**(view.query if view else {}), **query})


def look_at(**query: str) -> NoReturn:
    """Stay on this page and look at something else: `look_at(project=…)` replaces the whole query."""
    st.query_params.from_dict(query)
    st.rerun()


def link(view: View) -> str:
    """Return the address that shows this very view to somebody else: project, version and the page's own parameters."""
    parts = urlsplit(st.context.url or "")
    query = st.query_params.to_dict() | view.pinned
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))
