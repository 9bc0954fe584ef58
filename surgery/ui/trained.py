"""Whether the model was trained on a dataset: asked at import, changeable later, and told beside every number."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from surgery.ui.messages import _
from surgery.ui.state import View
from surgery.workspace.settings import ANSWERS, TrainedOn

WORDS: Mapping[str, str] = {
    "unknown": _("Unknown"),
    "yes": _("Yes"),
    "part": _("On part of it"),
    "no": _("No"),
    "train": _("On the training split only"),
}
_HELP = _("A model scores higher on samples that it was trained on.")


def ask(key: str, label: str = "") -> TrainedOn:
    """A field of an import form."""
    order: list[TrainedOn] = ["unknown", "yes", "part", "no"]
    return st.selectbox(
        label or _("Trained on this data?"), order, format_func=lambda answer: WORDS[answer], help=_HELP, key=key
    )


def choose(view: View) -> None:
    """The answer about the dataset on view, to be changed at any time."""
    if view.project is None or view.dataset is None:
        return
    present = view.project.settings.answer(view.dataset.id)
    answers = list(dict.fromkeys(["unknown", *ANSWERS, present]))
    chosen = st.selectbox(
        _("Was the model trained on it?"),
        answers,
        index=answers.index(present),
        format_func=lambda answer: WORDS[answer],
        help=_HELP,
        key=f"trained_on_{view.dataset.id}",
        width=220,
    )
    if chosen and chosen != present:
        view.workspace.set_trained_on(view.project.id, view.dataset.id, chosen)
        st.rerun()
