"""Real samples wherever a neuron or a mistake is spoken of: a grid of small pictures, or rows of a table."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from surgery.data.dataset import Dataset
from surgery.ui import format
from surgery.ui.messages import _

ROWS = 9
MOST_FEATURES = 8  # columns of a table sample that fit beside the map
_STYLE = (
    "display:grid;grid-template-columns:repeat({columns},1fr);gap:6px;max-width:{width}px;font-size:12px;"
    "line-height:1.25;font-variant-numeric:tabular-nums"
)
_PICTURE = "width:100%;aspect-ratio:1;object-fit:contain;image-rendering:{rendering};border-radius:4px;display:block"
_SHARP = 64  # pixels: smaller pictures are enlarged as squares and not blurred


@dataclass(frozen=True)
class Shown:
    """One sample and what stands under it."""

    sample: int
    caption: str


def samples(data: Dataset, shown: Sequence[Shown], *, columns: int = 3, width: int = 240, key: str) -> None:
    """Draw samples with their captions: `columns` pictures a row, `width` pixels in all, or rows of features."""
    with st.container(key=key):
        if data.kind == "images":
            st.html(grid(data, shown, columns=columns, width=width))
        else:
            st.dataframe(rows(data, shown), hide_index=True, height=38 + 35 * min(len(shown), ROWS))


def grid(data: Dataset, shown: Sequence[Shown], *, columns: int, width: int) -> str:
    """The pictures as HTML that needs no other file; captions and names are escaped."""
    rendering = "pixelated" if min(data.shape[1:]) < _SHARP else "auto"
    style = _PICTURE.format(rendering=rendering)
    figures = "".join(_figure(data, each, style) for each in shown)
    return f'<div style="{_STYLE.format(columns=columns, width=width)}">{figures}</div>'


def rows(data: Dataset, shown: Sequence[Shown]) -> pd.DataFrame:
    """The samples of a table, one a row: its caption, then its first features."""
    found = [
        {_("Sample"): f"#{each.sample}", _("Label"): each.caption}
        | dict(list(data.row(each.sample).items())[:MOST_FEATURES])
        for each in shown
    ]
    frame = pd.DataFrame(found)
    return frame.map(lambda value: format.digits(value) if isinstance(value, float) else value)


def label(data: Dataset, sample: int) -> str:
    """The true class of a sample, its target value, or nothing where there are no labels."""
    if data.task == "unlabelled":
        return ""
    value = data.labels([sample])[0]
    return data.classes[int(value)] if data.task == "classification" else format.digits(float(value))


def _figure(data: Dataset, each: Shown, style: str) -> str:
    code = base64.b64encode(data.picture(each.sample)).decode()
    caption = html.escape(each.caption)
    words = html.escape(_("sample {number}: {caption}").format(number=each.sample, caption=each.caption))
    return (
        f'<figure style="margin:0"><img alt="{words}" title="{words}" style="{style}" '
        f'src="data:image/png;base64,{code}"><figcaption>{caption}</figcaption></figure>'
    )
