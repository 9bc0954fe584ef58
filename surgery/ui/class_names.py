"""Match the classes of a dataset to those of a model: pairs with samples, confirmed by a person, never by position."""

from __future__ import annotations

import streamlit as st

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.matching import apart, mismatch, suggested, unknown
from surgery.ui import pictures, progress
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.state import View

SHOWN = 3  # samples of a class
MOST = 50  # classes that are matched on the page; more with the command line


def needed(view: View) -> bool:
    """Say whether the model cannot be measured on the dataset before classes are renamed."""
    return bool(_known(view)) and view.dataset is not None and apart(view.dataset.classes, _known(view))


def _known(view: View) -> tuple[str, ...]:
    """The classes of the classifier in view; () where names do not matter."""
    if view.version is None or view.dataset is None or view.dataset.task != "classification":
        return ()
    found = view.workspace.inspect(view.version.id)
    other = found["task"] != "classification" or found["input"]["kind"] == "text"
    return () if other or view.dataset.kind == "text" else tuple(found["classes"])


def editor(view: View) -> None:
    """Draw a row for each class without a partner: samples, name, and which class of the model it is."""
    if view.project is None or view.dataset is None:
        return
    task = {"kind": "relabel", "dataset": view.dataset.id}
    if progress.watch_latest(view.workspace, view.project.id, task):
        return
    known, data = _known(view), view.workspace.dataset(view.dataset.id)
    st.markdown(f"##### {_('Match classes')}")
    st.warning(plain(mismatch(data.classes, known, repr(data.name))[0]), icon=":material/rule:")
    pairs, odd = suggested(data.classes, known), unknown(data.classes, known)
    if pairs.by == "position":
        st.caption(_("No name matches. The pairs below are by position only: check each against its samples."))
    if len(odd) > MOST:
        words = _("{count} classes are unmatched; match them with `surgery relabel {dataset} OLD=NEW …`.")
        st.caption(words.format(count=len(odd), dataset=view.dataset.id))
        return
    with st.form("match_classes", border=False):
        chosen = {name: _row(data, name, known, pairs.names.get(name, "")) for name in odd}
        sure = pairs.by == "name" or st.checkbox(_("Each pair is right: I compared the samples"))
        sent = st.form_submit_button(_("Rename classes"), type="primary", icon=":material/check:")
    if sent and not sure:
        st.error(_("Confirm that each pair is right, or choose other pairs."), icon=":material/error:")
    elif sent:
        _send(view, data, chosen)


def _row(data: Dataset, name: str, known: tuple[str, ...], partner: str) -> str | None:
    """One class: its samples and the choice of a partner; None to leave it out, its own name to keep it."""
    label = data.classes.index(name)
    ids = [int(id) for id in data.preview(40 * len(data.classes)) if data.labels([id])[0] == label][:SHOWN]
    left, right = st.columns([3, 2], vertical_alignment="center")
    with left:
        st.markdown(f"**{plain(name)}**")
        shown = [pictures.Shown(id, name) for id in ids]
        if data.kind == "images":
            st.html(pictures.grid(data, shown, columns=SHOWN, width=240))
        else:
            st.dataframe(pictures.rows(data, shown), hide_index=True, alt=_("Samples of {name}").format(name=name))
    options = ["", None, *known]
    return right.selectbox(
        _("Class of the model for {name}").format(name=plain(name)),
        options,
        index=options.index(partner) if partner else 0,
        format_func=lambda value: {"": _("Keep this name"), None: _("Leave out its samples")}.get(value, value),
        key=f"match_{label}",
    )


def _send(view: View, data: Dataset, chosen: dict[str, str | None]) -> None:
    names = {name: value for name, value in chosen.items() if value}
    without = [name for name, value in chosen.items() if value is None]
    if view.project is None or view.dataset is None or not (names or without):
        st.error(_("Choose a class of the model for at least one class."), icon=":material/error:")
        return
    title = plural("Rename {count} class", "Rename {count} classes", len(names) + len(without))
    task = {"kind": "relabel", "dataset": view.dataset.id, "classes": names, "without": without}
    name = _("{dataset}, classes renamed").format(dataset=data.name[:100])
    jobs.submit(view.workspace, {**task, "name": name}, project=view.project.id, title=title)
    st.rerun()
