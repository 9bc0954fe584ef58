"""No model yet: train a large uniform MLP on the table at hand, to be slimmed afterwards."""

from __future__ import annotations

import streamlit as st

from surgery import jobs
from surgery.ui import panels, shell
from surgery.ui.messages import _
from surgery.ui.state import View
from surgery.workspace import Job

KIND = "build_large"


def offer(view: View, last: Job | None) -> None:
    """Draw the form where the dataset is a labelled table; why the last try failed, if it did."""
    if view.project is None or view.dataset is None or view.dataset.kind != "table":
        return
    if view.dataset.task == "unlabelled":
        return
    failed = last is not None and last.kind == KIND and last.state == "failed"
    with st.expander(_("No model yet? Train a large one"), icon=":material/model_training:", expanded=failed):
        if last is not None and failed:
            panels.show_failure(last.reason)
        st.caption(
            _(
                "A plain network, larger than it needs to be, trained on {name}. Slim it afterwards on the page "
                "Change: what hardly varies goes."
            ).format(name=panels.plain(view.dataset.name))
        )
        with st.form("build_large", border=False):
            left, middle, right = st.columns(3)
            depth = left.number_input(_("Hidden layers"), 1, 10, 3)
            width = middle.number_input(_("Units in each"), 2, 4096, 256)
            epochs = right.number_input(
                _("Epochs at most"),
                1,
                1000,
                40,
                help=_("It is looked at ten times on the way, on validation samples; the best look is kept."),
            )
            sent = st.form_submit_button(_("Train"), type="primary", icon=":material/model_training:")
    if sent:
        name = _("MLP {depth} × {width}").format(depth=int(depth), width=int(width))
        given = {"dataset": view.dataset.id, "name": name, "depth": int(depth), "width": int(width)}
        task = {"kind": KIND, **given, "epochs": float(epochs)}
        jobs.submit(view.workspace, task, project=view.project.id, title=_("Train {name}").format(name=name))
        shell.look_at(**view.query)
