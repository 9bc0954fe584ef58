"""The left half of Model & data: a file of weights → a suggested architecture → a version.

Where one has come to is read from the project's jobs: a file is inspected (job), then imported (job) with the answers
of the form. Nothing of it lives in the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from surgery import jobs
from surgery.errors import Mismatch, ModelError, SurgeryError
from surgery.network import config_file
from surgery.ui import build_large, format, model_form, panels, progress, shell, trained, uploads
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Job

KINDS = ("open_sample", "inspect_model", "import_model", build_large.KIND)
COMMAND = "surgery import-model FILE"
_FORMATS = {"safetensors": "safetensors", "torch": _("PyTorch file")}
_AGAIN = "another"  # query parameter: ask for a new file although a model is in


def draw(view: View) -> None:
    """Draw the step that comes next."""
    if view.project is None:
        return
    job = _latest(view)
    if job is None or (job.kind == build_large.KIND and job.state == "failed"):
        _ask(view)
        build_large.offer(view, job)
        if view.version is not None and st.button(_("Keep the present model"), type="tertiary"):
            shell.look_at(**view.query)
    elif job.active:
        progress.watch(view.workspace, job)
    elif job.state == "done" and job.kind == "inspect_model":
        _settle(view, job)
    else:
        _ended(view, job)


def pending(view: View) -> bool:
    """Say whether a file is on its way into the project."""
    return _latest(view) is not None


def another_button(view: View) -> None:
    """Offer to bring one more model into the project."""
    if st.button(_("Bring another model"), icon=":material/upload:"):
        shell.look_at(**view.query, **{_AGAIN: "model"})


def _latest(view: View) -> Job | None:
    """The project's last model job, as long as it matters: while it runs, or its file waits for an answer."""
    project = view.project.id if view.project else ""
    job = next((job for job in jobs.jobs(view.workspace, project) if job.kind in KINDS), None)
    if job is None or job.active:
        return job
    if "path" not in job.task:
        return job if job.state == "failed" else None
    if job.state == "done" and job.kind == "import_model":  # its file may lie there a moment longer
        return None
    return job if uploads.waits(view.workspace, Path(job.task["path"])) else None


def _ask(view: View) -> None:
    given = uploads.uploader(
        _("Model file"),
        _("Weights as .safetensors, .pt or .pth."),
        f"{COMMAND} --project {view.query['project']}",
        key="model_file",
    )
    if given is None:
        return
    path = uploads.keep(view.workspace, given.name, given)
    try:
        _submit(view, {"kind": "inspect_model", "path": str(path)}, _("Look into {name}").format(name=given.name))
    except SurgeryError:
        uploads.discard(view.workspace, path)
        raise


def _submit(view: View, task: Mapping[str, Any], title: str) -> None:
    if view.project is not None:
        jobs.submit(view.workspace, task, project=view.project.id, title=title[:120])
        shell.look_at(**view.query)


def _ended(view: View, job: Job) -> None:
    """A job that failed or was cancelled: say why; back to the answers where there were some, else a new attempt."""
    if job.state == "failed":
        panels.show_failure(job.reason)
    else:
        st.caption(_("{title}: cancelled.").format(title=plain(job.title)))
    if job.kind == "import_model" and (before := _inspection(view, job)):
        _settle(view, before)
        return
    if not job.refused and st.button(_("Try again"), icon=":material/replay:"):
        jobs.retry(view.workspace, job.id)
        st.rerun()
    if "path" in job.task:
        _discard_button(view, Path(job.task["path"]))


def _inspection(view: View, job: Job) -> Job | None:
    """The inspection of the file that this job could not import."""
    for other in jobs.jobs(view.workspace, job.project):
        if other.kind == "inspect_model" and other.state == "done" and other.task["path"] == job.task["path"]:
            return other
    return None


def _discard_button(view: View, path: Path) -> None:
    if st.button(_("Discard this file"), icon=":material/delete:", type="tertiary", key="discard_model"):
        uploads.discard(view.workspace, path)
        shell.look_at(**view.query)


def _settle(view: View, job: Job) -> None:
    """The file was read: choose its architecture, then import it."""
    found, path = job.result, Path(job.task["path"])
    st.markdown(f"**{plain(path.name)}**")
    st.caption(
        _("{format}, {tensors} tensors, {parameters} values, {size}").format(
            format=_FORMATS[found["format"]],
            tensors=f"{found['tensors']:,}",
            parameters=format.amount(found["parameters"]),
            size=format.size(found["bytes"]),
        )
    )
    for note in found["notes"]:
        st.caption(plain(note))
    if found["described"]:
        _reopen(view, path)
    else:
        _fit(view, job, path)
    _discard_button(view, path)


def _reopen(view: View, path: Path) -> None:
    """A file that this product saved: nothing has to be asked."""
    st.caption(_("Saved by Model Surgery: architecture, classes and input are in the file."))
    with st.form("reopen_model", border=False):
        name = st.text_input(_("Name of this version"), value=path.stem[:120], max_chars=120)
        answer = {"trained_on": trained.ask("model_trained_on")} if view.dataset is not None else {}
        sent = st.form_submit_button(_("Import model"), type="primary", icon=":material/download_done:")
    if sent:
        task = {"kind": "import_model", "path": str(path), "name": name, **answer}
        _submit(view, task, _("Import {name}").format(name=name))


def _fit(view: View, job: Job, path: Path) -> None:
    """Choose the architecture; when it fits, ask the rest and import."""
    chosen = _architecture(view, job)
    if chosen is None:
        return
    if chosen.get("needs"):
        _ask_needs(view, job, chosen)
    elif chosen["misfits"]:
        _misfit(chosen)
    else:
        answer = model_form.ask(view, chosen, stem=path.stem)
        if answer is not None:
            task = {"kind": "import_model", "path": str(path), **answer}
            _submit(view, task, _("Import {name}").format(name=answer["name"]))


def _architecture(view: View, job: Job) -> Mapping[str, Any] | None:
    suggestions, other = job.result["suggestions"], len(job.result["suggestions"])
    if not suggestions:
        panels.unsupported(_("No known architecture fits this file."), _("Name one, or register your own class."))
    if not any(_fits(one) for one in suggestions):
        _listing(job)
    chosen = st.selectbox(
        _("Architecture"),
        range(other + 1),
        format_func=lambda number: _("Another one…") if number == other else _spoken(suggestions[number]),
        help=_("The best fit comes first: names and shapes of all tensors are compared."),
    )
    if chosen is not None and chosen < other:
        return dict(suggestions[chosen])
    _other(view, job)
    return None


def _spoken(suggestion: Mapping[str, Any]) -> str:
    named = format.call(suggestion["name"], suggestion["arguments"])
    misfits = suggestion["misfits"]
    if suggestion.get("needs"):
        return f"{named} · {_('needs {names}').format(names=', '.join(suggestion['needs']))}"
    fit = plural("{count} tensor differs", "{count} tensors differ", misfits) if misfits else _("fits")
    return f"{named} · {fit}"


def _fits(suggestion: Mapping[str, Any]) -> bool:
    return not suggestion["misfits"] and not suggestion.get("needs")


def _listing(job: Job) -> None:
    """List the tensors of the file: what the class to be registered must have."""
    found = job.result.get("listing", [])
    if not found:
        return
    with st.expander(_("Tensors in the file"), icon=":material/list:"):
        table = pd.DataFrame([(name, " × ".join(map(str, shape)) or "1") for name, shape in found])
        table.columns = [_("Name"), _("Shape")]
        st.dataframe(table, hide_index=True, height="content" if len(table) < 8 else 280, alt=_("Tensors in the file"))
        if job.result["tensors"] > len(found):
            total = f"{job.result['tensors']:,}"
            st.caption(_("The first {count} of {total}.").format(count=len(found), total=total))


def _ask_needs(view: View, job: Job, suggestion: Mapping[str, Any]) -> None:
    """Ask for the arguments of a constructor that the weights do not tell, then compare."""
    st.caption(
        _("The constructor of {name} needs arguments that the file does not tell.").format(
            name=plain(suggestion["name"])
        )
    )
    with st.form("needed_arguments", border=False):
        given = {name: st.text_input(name, key=f"needs_{name}") for name in suggestion["needs"]}
        sent = st.form_submit_button(_("Compare"), icon=":material/difference:")
    if sent:
        if empty := [name for name, text in given.items() if not text.strip()]:
            raise ModelError(f"No value is given for {', '.join(empty)}.", "Fill in every field.")
        values = {name: model_form.value(text) for name, text in given.items()}
        _compare(view, job, {"name": suggestion["name"], "arguments": {**suggestion["arguments"], **values}})


def _compare(view: View, job: Job, architecture: Mapping[str, Any], called: str = "") -> None:
    """Look into the file once more, against this architecture."""
    task = {"kind": "inspect_model", "path": job.task["path"], "architecture": architecture}
    _submit(view, task, _("Compare with {name}").format(name=called or architecture["name"]))


def _misfit(suggestion: Mapping[str, Any]) -> None:
    count = suggestion["misfits"]
    st.warning(
        plural(
            "{count} tensor differs between the file and this architecture, so it cannot be imported as such.",
            "{count} tensors differ between the file and this architecture, so it cannot be imported as such.",
            count,
        ),
        icon=":material/difference:",
    )
    panels.table([Mismatch(**row) for row in suggestion["mismatches"]])


def _other(view: View, job: Job) -> None:
    """Name an architecture that was not suggested; how to register one's own."""
    with st.form("other_architecture", border=False):
        name = st.selectbox(_("Name"), job.result["names"])
        arguments = st.text_input(
            _("Arguments (JSON)"), "{}", help=_('What its constructor takes, for instance {"num_classes": 10}')
        )
        config = st.file_uploader(
            _("Or the config.json of a Hugging Face image classifier"), key="config", max_upload_size=1
        )
        sent = st.form_submit_button(_("Compare"), icon=":material/difference:")
    with st.expander(_("My own network"), icon=":material/code:"):
        st.markdown(
            _("Write its constructor into a Python file and start with `surgery --architectures FILE`.")
            + " "
            + _("An uploaded file never runs code.")
        )
        st.code(job.result["snippet"], language="python")
    if sent and (config or name):
        wanted = (
            config_file.architecture(config.getvalue(), config.name)
            if config
            else {"name": name, "arguments": model_form.arguments(arguments)}
        )
        _compare(view, job, wanted, config.name if config else "")
