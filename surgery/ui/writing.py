"""What a language model writes: after words of one's own, and before and after a surgery side by side."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from surgery.errors import SurgeryError
from surgery.jobs import probe
from surgery.ui import panels
from surgery.ui.messages import _
from surgery.ui.state import View
from surgery.workspace import Workspace


def try_out(view: View) -> None:
    """A beginning typed by hand, and what this version writes after it."""
    if view.version is None or view.dataset is None or view.dataset.kind != "text":
        return
    data = view.workspace.dataset(view.dataset.id)
    context = view.workspace.inspect(view.version.id)["input"]["shape"][0]
    first = data.text(int(data.preview(1)[0]))[0]
    st.markdown(f"##### {_('Let it write')}")
    with st.form("write", border=False):
        prompt = st.text_area(
            _("Beginning"),
            value=first,
            max_chars=max(2000, context),
            height=80,
            help=_("It reads the last {count} characters of it.").format(count=context),
        )
        temperature = st.slider(
            _("Temperature"), 0.0, 1.5, 0.7, 0.1, help=_("0: always the likeliest character. More: more by chance.")
        )
        sent = st.form_submit_button(_("Write"), icon=":material/edit_note:")
    if not sent:
        return
    if len(prompt) > context:
        st.caption(_("Of {all} characters it reads the last {count}.").format(all=len(prompt), count=context))
    try:
        found = written(view.workspace, view.version.id, view.dataset.id, prompt, temperature)
    except SurgeryError as error:
        st.error(panels.plain(str(error)), icon=":material/error:")
        return
    _text(prompt, found["text"])


@st.cache_data(max_entries=64, show_spinner=False)
def written(_ws: Workspace, version: str, dataset: str, prompt: str, temperature: float) -> dict[str, Any]:
    """The probe's answer: `text`, what follows the prompt."""
    return probe.ask(_ws, version, dataset, {"what": "write", "prompt": prompt, "temperature": temperature})


def side_by_side(texts: Sequence[Mapping[str, str]], before: str, after: str) -> None:
    """The same beginnings, continued by two versions with the same chance."""
    if not texts:
        return
    with panels.panel():
        st.markdown(f"##### {_('What it writes')}")
        st.caption(_("The beginning is from validation or a must-keep case; both versions had the same chance."))
        for row in texts:
            left, right = st.columns(2, gap="large")
            for column, name, side in ((left, before, "before"), (right, after, "after")):
                with column:
                    st.caption(f"**{name}**")
                    _text(row["prompt"], row[side])


def _text(prompt: str, following: str) -> None:
    """The beginning in gray, then what was written."""
    st.html(
        '<div style="white-space:pre-wrap;font-family:monospace;font-size:13px;line-height:1.45" data-written="1">'
        f'<span style="opacity:.55">{html.escape(prompt)}</span>{html.escape(following)}</div>'
    )
