"""The right half of Model & data: a file of samples → for a table its target → a dataset."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from surgery import jobs
from surgery.data import limited
from surgery.data.recognise import TABULAR
from surgery.errors import DataError
from surgery.ui import data_options, format, panels, progress, shell, trained, uploads
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Job

COMMAND = "surgery import-data PATH"
_KEPT, _AGAIN = "data", "another"


def draw(view: View) -> None:
    """Draw the step that comes next."""
    job, path = _latest(view), _upload(view)
    if job is not None and job.active:
        progress.watch(view.workspace, job)
        return
    if job is not None and job.state == "failed":
        panels.show_failure(job.reason)
    if path is not None:
        _settle(view, path)
        return
    _ask(view)
    if view.dataset is not None and st.button(_("Keep the present dataset"), type="tertiary"):
        shell.look_at(**view.query)


def pending(view: View) -> bool:
    """Say whether a file is on its way into the project."""
    job = _latest(view)
    return (job is not None and job.active) or _upload(view) is not None


def another_button(view: View) -> None:
    """Offer to bring one more dataset into the project."""
    if st.button(_("Bring another dataset"), icon=":material/upload:"):
        shell.look_at(**view.query, **{_AGAIN: "data"})


def _latest(view: View) -> Job | None:
    """The project's last import of data, as long as it matters: while it runs, or its file waits for another try."""
    project = view.project.id if view.project else ""
    job = next((job for job in jobs.jobs(view.workspace, project) if job.kind == "import_data"), None)
    if job is None or job.active:
        return job
    over = job.state == "done"  # the file may lie there a moment longer
    return job if not over and uploads.waits(view.workspace, Path(job.task["path"])) else None


def _upload(view: View) -> Path | None:
    """The upload that the URL names, or the one whose import did not succeed."""
    kept, job = st.query_params.get(_KEPT), _latest(view)
    if kept:
        return uploads.find(view.workspace, kept)
    return None if job is None or job.active else Path(job.task["path"])


def _ask(view: View) -> None:
    given = uploads.uploader(
        _("Dataset"),
        _(
            "A zip of image folders (class/*.png or train/class, test/class), npz (x, y), CSV (also .gz), JSON "
            "records, Parquet or a .txt."
        ),
        f"{COMMAND} --project {view.query['project']}",
        key="data_file",
    )
    if given is not None:
        path = uploads.keep(view.workspace, given.name, given)
        shell.look_at(**view.query, **{_KEPT: uploads.named(path)})


def _settle(view: View, path: Path) -> None:
    """The file is here: show what it holds, ask what it cannot say, then import it."""
    st.markdown(f"**{plain(path.name)}**")
    with panels.panel():
        header = _header(path)
        look = _look(path, last=True, header=header)
        found = look.found
        st.caption(f"{found.label}, {found.entries:,} · {format.size(found.bytes)}")
        options: dict[str, Any] = {"header": header} if header != "auto" else {}
        if found.kind in TABULAR and (numbers := data_options.spelling(look.columns)):
            options["numbers"] = numbers
            look = _look(path, last=True, header=header, numbers=numbers)
        options |= _options(view, look)
        target, split = options.get("target"), options.get("split")
        own = look
        if target not in (None, look.target) or split:
            own = _look(path, target or look.target, header=header, split=split)
        _previews(own)
        if uses := data_options.splits(own.splits):
            options["splits"] = uses
        _send(view, path, options, labelled=found.kind != "text" and options.get("task") != "regression")
    if st.button(_("Discard this file"), icon=":material/delete:", type="tertiary", key="discard_data"):
        uploads.discard(view.workspace, path)
        shell.look_at(**view.query)


def _header(path: Path) -> str:
    """What the first line of a text table is, also of one that cannot be read as it seems to be."""
    try:
        is_csv = _look(path, last=True, header="auto").found.kind == "csv"
    except DataError:
        is_csv = path.suffix.lower() in (".csv", ".tsv", ".txt", ".data", ".gz", ".bz2", ".xz")
    return data_options.first_line("header") if is_csv else "auto"


def _options(view: View, look: limited.Look) -> dict[str, Any]:
    """What a file of this kind cannot say itself."""
    kind = look.found.kind
    if kind in TABULAR:
        return data_options.table(view, look)
    if kind == "text":
        return data_options.window(view)
    return {} if kind == "npz" else data_options.size(view)


def _send(view: View, path: Path, options: Mapping[str, Any], *, labelled: bool) -> None:
    with st.form("import_data", border=False):
        name = st.text_input(_("Name of the dataset"), value=path.stem[:120], max_chars=120)
        if labelled and st.checkbox(
            _("Merge similar class names"),
            help=_("Classes whose names differ only in Unicode form, case or blanks become one class."),
        ):
            options = {**options, "same_names": "merge"}
        if view.version is not None:
            options = {**options, "trained_on": trained.ask("data_trained_on", _("Was the model trained on it?"))}
        sent = st.form_submit_button(_("Import dataset"), type="primary", icon=":material/download_done:")
    if sent and view.project is not None:
        task = {"kind": "import_data", "path": str(path), "name": name, **options}
        jobs.submit(view.workspace, task, project=view.project.id, title=_("Import {name}").format(name=name)[:120])
        shell.look_at(**view.query)


def _look(path: Path, target: str | None = None, **said: Any) -> limited.Look:
    """What the file holds, with samples labelled by `target` or by the last column, read as the user says.

    Raises:
        DataError: it cannot be read.
    """
    facts = path.stat()
    found = _looked(str(path), (facts.st_size, facts.st_mtime_ns), target, tuple(sorted(said.items())))
    if isinstance(found, DataError):
        raise found
    return found


@st.cache_data(show_spinner=False, max_entries=16)
def _looked(
    path: str, state: tuple[int, int], target: str | None, said: tuple[tuple[str, Any], ...]
) -> limited.Look | DataError:
    """Look once at a file of this size and time, also at one that cannot be read: a look may take many seconds."""
    try:
        return limited.look(Path(path), target=target, **dict(said))
    except DataError as error:
        return error


def _previews(found: limited.Look) -> None:
    """Twelve samples with their labels, before anything runs. A picture is passed on as it is, never opened here."""
    pictures = [(_address(sample), label) for sample, label in found.samples if isinstance(sample, bytes)]
    rows = [
        ({_("Label"): label} if label else {}) | sample
        for sample, label in found.samples
        if not isinstance(sample, bytes)
    ]
    with st.container(horizontal=True, gap="small"):
        for picture, label in pictures:
            st.image(picture, caption=plain(label) or None, width=72, alt=_("A sample of {label}").format(label=label))
    if rows:
        st.dataframe(pd.DataFrame(rows).iloc[:, :12], hide_index=True, height=180, alt=_("First rows of the table"))


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
