"""Make data for a trial: a copy of the dataset as it might come later, or as an attacker would send it."""

from __future__ import annotations

import streamlit as st

from surgery import jobs
from surgery.ui import progress
from surgery.ui.messages import _
from surgery.ui.state import View

KINDS = {
    "noise": _("noisier"),
    "blur": _("blurred"),
    "brightness": _("brighter"),
    "contrast": _("flatter"),
    "fgsm": _("attacked (FGSM)"),
    "pgd": _("attacked (PGD)"),
}


def drift(view: View) -> None:
    """Offer to make a drifted copy of the dataset on view; while it is made, its progress."""
    if view.project is None or view.dataset is None or view.version is None:
        return
    ws, project, dataset, version = view.workspace, view.project, view.dataset, view.version
    if dataset.kind == "text":
        return
    kinds = list(KINDS) if dataset.kind == "images" else ["noise"]
    kind = st.selectbox(_("Trial data"), kinds, format_func=KINDS.__getitem__, key="drift_kind", width=180)
    strength = st.number_input(_("Strength"), 0.01, 1.0, 0.5, step=0.05, key="drift_strength", width=120)
    if st.button(_("Make a drifted copy"), icon=":material/blur_on:"):
        task = {
            "kind": "drift",
            "dataset": dataset.id,
            "version": version.id,
            "change": kind,
            "strength": float(strength),
            "name": f"{dataset.name[:60]}, {KINDS[kind]} {strength:g}",
        }
        jobs.submit(ws, task, project=project.id, title=_("Make a drifted copy"))
        st.rerun()
    progress.watch_latest(ws, project.id, {"kind": "drift"})
