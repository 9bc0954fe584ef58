"""The four states of a panel besides content: loading, empty with one action, error, unsupported. Never a traceback.

with panels.panel(_("Statistics")):
    panels.table(...)          # a SurgeryError in here becomes the error panel, the rest of the page lives on
"""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import pandas as pd
import streamlit as st

from surgery import errors
from surgery.ui.messages import _

logger = logging.getLogger("surgery.ui")
_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:<>&^=])")


def plain(text: object) -> str:
    """Escape Markdown in words that come from files and people, so that a name can draw no link, image or colour."""
    return _MARKS.sub(r"\\\1", str(text).replace("\n", " "))


@contextmanager
def panel(title: str = "", *, note: str = "") -> Iterator[None]:
    """Head a part of a page and keep its errors inside it."""
    if title:
        st.markdown(f"##### {title}", help=note or None)
    try:
        yield
    except errors.SurgeryError as error:
        show_error(error)
    except Exception as error:
        reference = uuid.uuid4().hex[:8]
        logger.exception("reference %s", reference)
        _show(_("Something failed that should not have."), _unexpected(reference), _details(error, reference))


def loading(height: int = 120) -> AbstractContextManager[object]:
    """Show a skeleton of `height` pixels while the block runs."""
    return st.skeleton(height=height)


def empty(text: str, *, icon: str = "inbox") -> None:
    """Say what is missing here; the caller draws the one action below it."""
    st.info(text, icon=f":material/{icon}:")


def unsupported(what: str, why: str) -> None:
    """Say what cannot be done here and why."""
    st.warning(f"**{what}** {why}", icon=":material/block:")


def show_error(error: errors.SurgeryError) -> None:
    """Say what happened, the likely cause and the next step, with the table of rows or files if there is one."""
    step, _blank, code = error.fix.partition("\n\n")  # what follows a blank line is code to copy
    step = step or _("Go back one step and try again.")
    cause = next(text for kind, text in _causes() if isinstance(error, kind))
    _show(error.what, (cause, step), _details(error))
    if code:
        st.code(code, language="python")
    for rows in (getattr(error, "rows", ()), getattr(error, "problems", ())):
        if rows:
            table(rows)


def show_failure(reason: str) -> None:
    """Say why a background job failed; its reason already names the next step."""
    words, _blank, code = reason.partition("\n\n")
    st.error(f"**{_('The job failed.')}** {plain(words)}", icon=":material/error:")
    if code:
        st.code(code, language="python")


def table(rows: Sequence[object]) -> None:
    """Show frozen dataclasses (problems, mismatches) as a table, the first 200 rows, each in full."""
    frame = pd.DataFrame(list(rows[:200]), dtype=object).map(lambda value: "–" if value is None else plain(value))
    frame.columns = [str(name).capitalize() for name in frame.columns]
    st.table(frame, border="horizontal", hide_index=True, height=320 if len(frame) > 6 else "content")
    if len(rows) > 200:
        st.caption(_("The first 200 of {count} rows.").format(count=f"{len(rows):,}"))


def facts(pairs: Mapping[str, str]) -> None:
    """Show names and values in two aligned columns."""
    frame = pd.DataFrame({"name": list(pairs), "value": [plain(value) for value in pairs.values()]})
    st.table(frame, border="horizontal", hide_index=True, hide_header=True)


def _show(what: str, why: tuple[str, str], details: str) -> None:
    cause, step = why
    st.error(
        f"**{plain(what)}**\n\n"
        + _("Likely cause: {cause}").format(cause=plain(cause))
        + "\n\n"
        + _("Next step: {step}").format(step=plain(step)),
        icon=":material/error:",
    )
    with st.expander(_("Copy details"), icon=":material/content_copy:"):
        st.code(details, language=None)


def _unexpected(reference: str) -> tuple[str, str]:
    return _("a fault in this program."), _(
        "Try again; if it returns, report reference {reference} with the file app.log from the workspace folder."
    ).format(reference=reference)


def _details(error: Exception, reference: str = "") -> str:
    """What to copy into a report; the words of an unexpected error stay in the log: they may name files."""
    lines = [time.strftime("%Y-%m-%d %H:%M:%S"), type(error).__name__]
    lines += [error.what, error.fix] if isinstance(error, errors.SurgeryError) else [f"reference {reference}"]
    for frame in traceback.extract_tb(error.__traceback__)[-1:]:
        lines.append(f"in {frame.name}, line {frame.lineno}")
    return "\n".join(line for line in lines if line)


def _causes() -> tuple[tuple[type[Exception], str], ...]:
    """Return the likely cause of each kind of error, the most specific first."""
    return (
        (errors.MismatchError, _("the weights were saved from another architecture, or with other sizes.")),
        (errors.ModelFileError, _("the file is damaged, or holds something other than plain weights.")),
        (errors.TraceError, _("the network does something between its layers that cannot be followed.")),
        (errors.ModelError, _("the architecture, its arguments and the weights do not belong together.")),
        (errors.DataError, _("files or rows of the dataset are damaged, missing or not in an expected form.")),
        (errors.SelectionError, _("the selection was made on another version, or asks for too much.")),
        (errors.PlanError, _("the plan was written by hand, or its inputs are gone.")),
        (errors.MeasureError, _("the model and the dataset do not belong together.")),
        (errors.NotFoundError, _("it was deleted, or the link comes from another workspace.")),
        (errors.ConflictError, _("somebody else, or another tab, changed the same project.")),
        (errors.DiskFullError, _("the disk that holds the workspace is full.")),
        (errors.DeviceMemoryError, _("the batch or the model is too large for the device.")),
        (errors.JobError, _("the background process could not start, or was ended.")),
        (errors.AccessError, _("the app is not set up for visitors from other machines.")),
        (errors.SurgeryError, _("the request does not fit what is in the workspace.")),
    )
