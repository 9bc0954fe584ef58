"""What was understood of a model and of a dataset, in facts, with every doubt and its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.jobs import inputs
from surgery.network.facts import Facts
from surgery.receipt import named_origin
from surgery.ui import class_names, coverage, format, model_form, panels, pictures, progress, scans, shell, trained
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Job


def model(view: View) -> None:
    """Architecture, layers, parameters, input, classes, level of support with its reason."""
    if view.version is None:
        return
    found = view.workspace.inspect(view.version.id)
    _support(found)
    spec = found["input"]
    panels.facts(
        {
            _("Architecture"): format.call(found["name"], found["arguments"]),
            _("Layers"): str(len(found["layers"])),
            _("Neurons"): _neurons(view),
            _("Parameters"): format.amount(found["parameters"]),
            _("Precision"): str(found.get("stored_as", "float32")),
            _("Model file"): _("{size}, weights and their names").format(size=format.size(view.version.bytes)),
            _("Input"): " × ".join(str(side) for side in spec["shape"]),
            _("Normalisation"): _statistics(spec),
            _("Outputs"): _some(found["classes"]),
            **({_("Prediction"): plain(found["output"])} if found.get("output") else {}),
        }
    )
    for origin in found.get("origins", ()):
        st.caption(_("Weights: {origin}").format(origin=plain(named_origin(origin))))
    with st.expander(_("Layers"), icon=":material/layers:"):
        layers = pd.DataFrame(found["layers"]).rename(
            columns={"name": _("Layer"), "kind": _("Kind"), "neurons": _("Neurons")}
        )
        st.dataframe(layers, hide_index=True, alt=_("Layers of the model"))
    if spec["kind"] != "text":
        _edit_input(view, spec)


def _edit_input(view: View, spec: Mapping[str, Any]) -> None:
    """Give the model another input size or normalization, as a new version."""
    with (
        st.popover(_("Edit input"), icon=":material/aspect_ratio:"),
        panels.panel(),
        st.form("edit_input", border=False),
    ):
        shape = model_form.shape(spec, key="edited")
        labels = {"mean": _("Mean, one number or one for each channel or feature"), "std": _("Standard deviation")}
        mean, std = (_edited(spec[name], label, f"edited_{name}") for name, label in labels.items())
        if st.form_submit_button(_("Save as new version"), type="primary", icon=":material/check:"):
            title = _("Input {size}").format(size=" × ".join(map(str, shape)))
            _set_input(view, title, {"shape": shape, "mean": mean, "std": std})


def _edited(own: Sequence[float], label: str, key: str) -> list[float]:
    """Numbers of the normalization as they were typed; those that were not touched stay exact."""
    shown = " ".join(f"{value:g}" for value in own)
    text = st.text_input(label, shown, key=key)
    return list(own) if text == shown else model_form.statistics(text, len(own))


def _set_input(view: View, title: str, given: Mapping[str, Any]) -> None:
    """Let a job make the version with another input."""
    if view.project is not None and view.version is not None:
        task = {"kind": "set_input", "version": view.version.id, "name": title}
        task |= {key: given[key] for key in ("shape", "mean", "std")}
        jobs.submit(view.workspace, task, project=view.project.id, title=title)
        st.rerun()


def _neurons(view: View) -> str:
    """How many can be chosen on the map, and what they are of all that are numbered."""
    seen = scans.of(view)
    total = view.version.neurons if view.version else 0
    if seen is None:
        return _("{total}, outputs included").format(total=format.amount(total)) if total else "–"
    units = int((~seen.table["logit"]).sum())
    chosen, hidden = format.amount(len(seen.ids)), format.amount(units)
    if units == len(seen.ids):
        return _("{chosen}, and {outputs} outputs").format(chosen=chosen, outputs=total - units)
    return _("{chosen} ({hidden} units; coupled ones count once), and {outputs} outputs").format(
        chosen=chosen, hidden=hidden, outputs=total - units
    )


def _support(found: Mapping[str, Any]) -> None:
    support, known = found["support"], coverage.share(found)
    whole = known is None or known > 0.995
    levels = {
        "full": (
            _("fully editable")
            if whole
            else _("fully editable: {share} of the parameters").format(share=coverage.percent(known or 0)),
            "check_circle",
            _("Neurons can be looked at, silenced and removed."),
        ),
        "gate": (_("gate only"), "do_not_disturb_on", _("Neurons can be looked at and silenced, not removed.")),
        "inspect": (_("inspect only"), "visibility", _("Layers can be looked at; neurons cannot be followed.")),
    }
    words, icon, meaning = levels[support["level"]]
    with st.container(horizontal=True, vertical_alignment="center"):
        full = support["level"] == "full" and (known is None or known >= 0.5)
        st.badge(words, icon=f":material/{icon}:", color="green" if full else "orange")
        st.caption(meaning, width="content")
    if not whole and support["level"] != "inspect" and (rest := coverage.left_whole(found)):
        st.caption(plain(rest))
    if support["reason"]:
        panels.unsupported(_("More is not possible here:"), plain(support["reason"]))


def data(view: View) -> None:
    """Kind, samples, roles with counts, classes; 12 samples with labels; notes and problems."""
    if view.dataset is None:
        return
    found = view.workspace.dataset(view.dataset.id)
    counts = found.counts()
    panels.facts(
        {
            _("Kind"): {"images": _("pictures"), "table": _("table"), "text": _("text")}[found.kind],
            _("Task"): found.task,
            _("Samples"): f"{len(found):,}",
            _("Split"): " · ".join(f"{role} {count:,}" for role, count in counts.items()),
            _("Sample"): _sample(found),
            _called(found): _some(found.classes),
            _("Size on disk"): format.size(view.dataset.bytes),
        }
    )
    if view.version is not None:
        trained.choose(view)
    for note in found.notes:
        st.caption(plain(note))
    previews(found)
    if found.problems:
        label = plural("{count} problem", "{count} problems", len(found.problems))
        with st.expander(label, icon=":material/warning:", expanded=True):
            panels.table(found.problems)


def _sample(found: Dataset) -> str:
    if found.kind == "text":
        return _("{count} characters and the next one").format(count=found.shape[0])
    return " × ".join(str(side) for side in found.shape)


def _called(found: Dataset) -> str:
    if found.kind == "text":
        return str(_("Alphabet"))
    return str(_("Classes") if found.task != "regression" else _("Target"))


def previews(found: Dataset) -> None:
    """Draw twelve samples with their labels, in turn from every class."""
    shown = [pictures.Shown(int(id), pictures.label(found, int(id))) for id in found.preview(12)]
    st.caption(_("12 samples with their labels") if len(shown) == 12 else _("Samples with their labels"))
    pictures.samples(found, shown, columns=6, width=480, key="previews")


def together(view: View) -> None:
    """How good the model is on this data now, whether another input does clearly better, and the next step."""
    if view.dataset is None:
        return
    if class_names.needed(view):
        class_names.editor(view)
        return
    rows = [] if view.dataset.task == "unlabelled" else _measured(view)
    if rows is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if rows:
            _quality_now(rows[0], view)
        elif view.dataset.task == "unlabelled":
            st.caption(_("The dataset has no labels: nothing can be measured against them."))
        else:
            st.caption(_("The dataset has test samples only: compare versions on it, on the page Compare."))
        st.space("stretch")
        _next_step(view)
    if rows:
        _doubt(view, rows)


def _measured(view: View) -> list[Mapping[str, Any]] | None:
    """Quality under each input that was tried, the model's own first; None while it is measured, or not to be.

    It is measured without a question, unless the images are smaller than the model's input: that is asked first, for
    it costs many times more. Cancelled, it is measured again on request only.
    """
    job = _check(view)
    if job is not None and job.state == "done":
        return list(job.result["rows"])
    changing = _changing(view)
    if changing is not None:
        progress.watch(view.workspace, changing)
    elif job is None and (size := _smaller(view)):
        _offer_size(view, size)
    elif job is None:
        progress.watch(view.workspace, _start_check(view))
    elif job.state == "cancelled":
        st.caption(_("The model was not measured on this dataset: the measurement was cancelled."))
        _measure_button(view)
    else:
        progress.watch(view.workspace, job)
    return None


def _measure_button(view: View, label: str = "") -> None:
    if st.button(label or _("Measure the model"), icon=":material/speed:"):
        _start_check(view)
        st.rerun()


def _changing(view: View) -> Job | None:
    """The job that gives this version another input, while it runs or when it failed."""
    task = {"kind": "set_input", "version": view.version.id if view.version else ""}
    job = progress.latest(view.workspace, view.project.id if view.project else "", task)
    return job if job is not None and job.active else None


def _smaller(view: View) -> tuple[int, int] | None:
    """(height, width) of the dataset's images where the model would get them enlarged."""
    if view.version is None or view.dataset is None:
        return None
    takes = Facts.of(view.workspace.inspect(view.version.id), view.version.name).input
    return inputs.smaller_images(takes, view.workspace.dataset(view.dataset.id))


def _offer_size(view: View, size: tuple[int, int]) -> None:
    """Ask which input size is right before anything is measured."""
    if view.version is None:
        return
    spec = view.workspace.inspect(view.version.id)["input"]
    own, other = (_("{height} × {width}").format(height=h, width=w) for h, w in (spec["shape"][1:], size))
    st.info(
        _("The model takes images of {own} pixels; the images of the dataset have {other}.").format(
            own=own, other=other
        ),
        icon=":material/aspect_ratio:",
    )
    failed = progress.latest(
        view.workspace,
        view.project.id if view.project else "",
        {"kind": "set_input", "version": view.version.id},
    )
    if failed is not None and failed.state == "failed":
        panels.show_failure(failed.reason)
    with st.container(horizontal=True):
        if st.button(_("Use {size}").format(size=other), type="primary", icon=":material/check:"):
            given = {"shape": [spec["shape"][0], *size], "mean": spec["mean"], "std": spec["std"]}
            _set_input(view, _("Input {size}").format(size=other), given)
        _measure_button(view, _("Keep {size} and measure").format(size=own))


def _spoken(quality: float | None, task: str) -> str:
    return format.percent(quality) if task == "classification" else format.digits(quality)


def _quality_now(row: Mapping[str, Any], view: View) -> None:
    data, settings = view.dataset, view.project.settings if view.project else None
    if data is None or settings is None:
        return
    name = _("Accuracy now") if data.task == "classification" else _("R² now")
    name = _("Next character right") if data.kind == "text" else name
    with st.container(width="content", gap=None):
        st.metric(name, _spoken(row["quality"], data.task), width="content")
        st.caption(
            _("validation, n = {n} · {seen}").format(n=f"{row['n']:,}", seen=settings.seen(data.id)), width="content"
        )


def _doubt(view: View, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say when another normalisation or image size is clearly better."""
    task = view.dataset.task if view.dataset else ""
    if best := inputs.clearly_better(rows):
        _other_input(view, best, rows[0], _spoken(best["quality"], task))


def _check(view: View) -> Job | None:
    """The last job that measured this version on this dataset."""
    return next(
        (
            job
            for job in jobs.jobs(view.workspace, _ids(view)["project"])
            if _task(view).items() <= dict(job.task).items()
        ),
        None,
    )


def _start_check(view: View) -> Job:
    return jobs.submit(
        view.workspace, _task(view), project=_ids(view)["project"], title=_("Measure the model as it is")
    )


def _task(view: View) -> dict[str, str]:
    ids = _ids(view)
    return {"kind": "check_model", "version": ids["version"], "dataset": ids["dataset"]}


def _ids(view: View) -> dict[str, str]:
    return {name: part.id if (part := getattr(view, name)) else "" for name in ("version", "dataset", "project")}


def _next_step(view: View) -> None:
    """Offer the scan that the map of neurons is made of, or the map itself."""
    if view.project is None or view.version is None or view.dataset is None:
        return
    if view.workspace.has_scan(view.version.id, view.dataset.id, {}):
        if st.button(_("Look at the neurons"), type="primary", icon=":material/scatter_plot:"):
            shell.go("neurons", view)
    elif st.button(_("Scan neurons"), type="primary", icon=":material/scatter_plot:"):
        task = {"kind": "scan", "version": view.version.id, "dataset": view.dataset.id, "params": {}}
        title = _("Scan v{number}").format(number=view.version.number)
        jobs.submit(view.workspace, task, project=view.project.id, title=title)
        shell.go("neurons", view)


def _other_input(view: View, best: Mapping[str, Any], own: Mapping[str, Any], quality: str) -> None:
    resized = best["shape"] != own["shape"]
    words = (
        _("Fed with {name} the model reaches {quality}: it was probably trained on that size.")
        if resized
        else _("With the normalisation “{name}” the model reaches {quality}: it was probably trained with that one.")
    )
    st.warning(words.format(name=plain(best["name"]), quality=quality), icon=":material/tune:")
    if view.project is not None and view.version is not None and st.button(_("Use it"), icon=":material/check:"):
        title = (_("Take {name}") if resized else _("Normalise with {name}")).format(name=best["name"])
        _set_input(view, title, best)


def _statistics(spec: Mapping[str, Any]) -> str:
    if spec["kind"] == "text":
        return "–"
    if set(spec["mean"]) == {0.0} and set(spec["std"]) == {1.0}:
        return _("none")
    if len(spec["mean"]) > 3:
        return _("mean and std of each feature")
    mean, std = (", ".join(format.digits(value) for value in spec[name]) for name in ("mean", "std"))
    return f"mean {mean}; std {std}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{len(names)}: {shown}" + (", …" if len(names) > 10 else "")
