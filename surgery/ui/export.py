"""Take a version away: weights with a loader, ONNX, the plan, the old-id map. What needs torch is made by a job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from surgery import jobs
from surgery.jobs import Job
from surgery.ui import format, panels, progress
from surgery.ui.messages import _, plural
from surgery.ui.state import View

_BYTES = "application/octet-stream"
_MIME = {"safetensors": "application/zip", "weights": _BYTES, "onnx": _BYTES, "int8": _BYTES}


def draw(view: View) -> None:
    """Draw one row for each form in which the version on view can be taken away."""
    with panels.panel():
        _prepared(view, "safetensors", _("Weights and loader (zip)"), _("Loads with torch and safetensors alone."))
        _prepared(view, "weights", _("Weights (safetensors)"), _("One file that Model Surgery imports again as it is."))
        _prepared(view, "onnx", _("ONNX"), _("For ONNX Runtime and others; any batch size."))
        if view.dataset is not None and view.dataset.task != "unlabelled":
            _prepared(view, "int8", _("8 bits (ONNX)"), _("Quantized after training by ONNX Runtime, and measured."))
        _plan(view)
        _old_ids(view)


def onnx(view: View) -> None:
    """Only the form that other tools open and draw, such as Netron."""
    with panels.panel():
        meaning = _("One file with names, shapes and weights: opens in Netron and runs in ONNX Runtime.")
        _prepared(view, "onnx", _("ONNX"), meaning)


def _prepared(view: View, kind: str, label: str, meaning: str) -> None:
    """A file that a job makes: prepare it, watch it, download it."""
    if view.version is None or view.project is None:
        return
    task = {"kind": "export", "version": view.version.id, "format": kind}
    if kind == "int8" and view.dataset is not None:
        task["dataset"] = view.dataset.id
    job = _latest(view, task)
    if job is not None and job.state != "done":
        progress.watch(view.workspace, job)
    elif job is not None and (file := Path(job.result["file"])).is_file():
        st.download_button(
            f"{label}, {format.size(file.stat().st_size)}",
            file.read_bytes,
            file.name,
            _MIME[kind],
            icon=":material/download:",
            key=f"download_{kind}",
            on_click="ignore",
        )
        if kind == "int8":
            meaning = int8_said(job.result)
        if needs := job.result.get("needs"):
            st.warning(needs_said(needs), icon=":material/deployed_code_alert:")
    elif st.button(_("Prepare: {label}").format(label=label), icon=":material/deployed_code:", key=f"prepare_{kind}"):
        title = _("Export v{number} as {kind}").format(number=view.version.number, kind=kind)
        jobs.submit(view.workspace, task, project=view.project.id, title=title)
        st.rerun()
    st.caption(meaning)


def needs_said(module: str) -> str:
    """What an export lacks that does not stand alone."""
    return _(
        "definition.py imports {module}, which is not in the export: it loads only where {module} can be imported."
    ).format(module=module)


def int8_said(found: Mapping[str, Any]) -> str:
    """`26.0% of the bytes; accuracy 96.7% → 96.3% on 270 test samples; 3.60× as fast at batch 32 …`."""
    (whole, small), (old, new) = found["bytes"], found["quality"]
    percent = found["metric"] == "accuracy"
    before, after = (format.percent(value) if percent else format.digits(value) for value in (old, new))
    names = {"accuracy": _("accuracy"), "r2": _("R²"), "loss": _("loss per character")}
    said = _("{share} of the bytes of 32 bits; {name} {before} → {after} on {n} {split} samples").format(
        share=format.percent(small / whole),
        name=names[found["metric"]],
        before=before,
        after=after,
        n=f"{found['n']:,}",
        split=found["split"],
    )
    return f"{said}; {_speed(found['times'][-1], found['threads'])}"


def _speed(time: Mapping[str, float], threads: int) -> str:
    """How much faster it is, or plainly that it is not; a difference within the spread is none."""
    where = _("at batch {batch} on this machine ({threads}, ONNX Runtime)").format(
        batch=time["batch"], threads=plural("{count} thread", "{count} threads", threads)
    )
    if time["whole"] - time["int8"] <= time["spread"]:
        return _("8 bits do not run faster {where}: {int8} ms, 32 bits {whole} ms.").format(
            where=where, int8=format.digits(time["int8"]), whole=format.digits(time["whole"])
        )
    return _("{factor}× as fast {where}: {int8} ms instead of {whole} ms.").format(
        factor=format.digits(time["whole"] / time["int8"]),
        where=where,
        int8=format.digits(time["int8"]),
        whole=format.digits(time["whole"]),
    )


def _latest(view: View, task: dict[str, str]) -> Job | None:
    """The last job that exported this very version so."""
    project = view.project.id if view.project else ""
    return next((job for job in jobs.jobs(view.workspace, project) if task.items() <= dict(job.task).items()), None)


def _plan(view: View) -> None:
    if view.version is None:
        return
    plan = view.workspace.plan(view.version.id)
    st.download_button(
        _("Plan (JSON)"),
        json.dumps(plan, indent=1),
        f"v{view.version.number}-plan.json",
        "application/json",
        icon=":material/description:",
        disabled=plan is None,
        help=_no_surgery() if plan is None else _("Replays from the command line: surgery run PLAN.json"),
        on_click="ignore",
    )


def _old_ids(view: View) -> None:
    if view.version is None:
        return
    kept = view.workspace.kept(view.version.id)
    table = pd.DataFrame({"neuron": range(len(kept or ())), "old_neuron": kept or []})
    st.download_button(
        _("Old-id map (CSV)"),
        table.to_csv(index=False),
        f"v{view.version.number}-old-ids.csv",
        "text/csv",
        icon=":material/tag:",
        disabled=kept is None,
        help=_no_surgery() if kept is None else _("For each neuron its id in the version before"),
        on_click="ignore",
    )


def _no_surgery() -> str:
    return _("An imported version has none: no surgery made it.")
