"""Real samples wherever a neuron or a mistake is spoken of: a grid of small pictures, or rows of a table."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from surgery.data.dataset import Dataset
from surgery.ui import format
from surgery.ui.messages import _

VEIL = (255, 122, 0)  # orange shows on gray and on most photographs
FRAME = "rgba(255,255,255,.9);outline:1px solid rgba(0,0,0,.55)"
MOST_FEATURES = 8  # columns of a table sample that fit beside the map
_STYLE = (
    "display:grid;grid-template-columns:repeat({columns},1fr);gap:6px;max-width:{width}px;font-size:12px;"
    "line-height:1.25;font-variant-numeric:tabular-nums"
)
_PICTURE = "width:100%;aspect-ratio:1;object-fit:contain;image-rendering:{rendering};border-radius:4px;display:block"
_LINE = "display:flex;justify-content:space-between;gap:12px;font-size:12px;line-height:1.5;margin-bottom:4px"
_TEXT = "white-space:pre-wrap;word-break:break-all"
_READ = f"background:rgba({VEIL[0]},{VEIL[1]},{VEIL[2]},.6);color:inherit"
_NEXT = "outline:1px solid currentColor;margin-left:2px;padding:0 1px"
_SHARP = 64  # pixels: smaller pictures are enlarged as squares and not blurred


@dataclass(frozen=True)
class Shown:
    """One sample, what stands under it, and what is drawn over its picture (HTML of ours, see `overlay`)."""

    sample: int
    caption: str
    over: str = ""


def samples(data: Dataset, shown: Sequence[Shown], *, columns: int = 3, width: int = 240, key: str) -> None:
    """Draw samples with their captions: `columns` pictures a row, `width` pixels in all, or rows of features."""
    with st.container(key=key):
        if data.kind == "images":
            st.html(grid(data, shown, columns=columns, width=width))
        elif data.kind == "text":
            st.html(passages(data, shown))
        else:
            st.dataframe(rows(data, shown), hide_index=True)


def of_how_many(shown: int, count: int) -> None:
    """Say below samples that were chosen by `by_turns` how many of how many they are, unless they are all."""
    if count > shown:
        st.caption(_("Showing {shown} of {count}, balanced by class").format(shown=shown, count=f"{count:,}"))


def grid(data: Dataset, shown: Sequence[Shown], *, columns: int, width: int) -> str:
    """The pictures as HTML that needs no other file; captions and names are escaped."""
    rendering = "pixelated" if min(data.shape[1:]) < _SHARP else "auto"
    style = _PICTURE.format(rendering=rendering)
    figures = "".join(_figure(data, each, style) for each in shown)
    return f'<div style="{_STYLE.format(columns=columns, width=width)}">{figures}</div>'


def passages(data: Dataset, shown: Sequence[Shown]) -> str:
    """Windows of text as HTML, one below the other: the last character that is read is marked, the next one framed."""
    return "".join(_passage(data, each) for each in shown)


def _passage(data: Dataset, each: Shown) -> str:
    read, following = data.text(each.sample)
    body = each.over or f"{_visible(read[:-1])}<mark style='{_READ}'>{_visible(read[-1])}</mark>"
    words = html.escape(_("sample {number}: {caption}").format(number=each.sample, caption=each.caption))
    beside = "" if each.caption == label(data, each.sample) else html.escape(each.caption)
    return (
        f'<div style="{_LINE}" title="{words}"><code style="{_TEXT}">{body}'
        f'<span style="{_NEXT}">{_visible(following)}</span></code><div>{beside}</div></div>'
    )


def _visible(text: str) -> str:
    """Escaped, with line ends and blanks that can be seen."""
    return html.escape(text).replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")


def heated(text: str, shares: Sequence[float]) -> str:
    """HTML of a text whose characters are coloured by 0–1 each, to be shown as `Shown.over`."""
    red, green, blue = VEIL
    depths = [0.75 * min(max(share, 0.0), 1.0) for share in shares]
    marked = [
        f'<span style="background:rgba({red},{green},{blue},{depth:.2f})">{_visible(one)}</span>'
        for one, depth in zip(text, depths, strict=True)
    ]
    return f'<span data-region="map">{"".join(marked)}</span>'


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
        f'<figure style="margin:0"><div style="position:relative"><img alt="{words}" title="{words}" style="{style}" '
        f'src="data:image/png;base64,{code}">{each.over}</div><figcaption>{caption}</figcaption></figure>'
    )


def overlay(region: Mapping[str, Any], shape: tuple[int, int]) -> str:
    """Where a neuron is active in a picture of H × W pixels: its map as a veil of orange, its box as a frame.

    region: map (rows of numbers 0–1) and box (left, top, right, bottom as shares of the picture, or None).
    """
    height, width = shape
    side = max(height, width)  # pictures are drawn into a square, and centred
    left, top = (100 * (side - size) / (2 * side) for size in (width, height))
    place = "position:absolute;pointer-events:none;box-sizing:border-box;"
    code = base64.b64encode(_veil(np.asarray(region["map"]))).decode()
    veil = (
        f'<img alt="" data-region="map" style="{place}left:{left:.2f}%;top:{top:.2f}%;width:{100 * width / side:.2f}%;'
        f'height:{100 * height / side:.2f}%;border-radius:4px" src="data:image/png;base64,{code}">'
    )
    box = region["box"]
    if box is None or box == [0.0, 0.0, 1.0, 1.0]:
        return veil
    x0, y0, x1, y1 = (
        start + share * 100 * size / side
        for share, start, size in zip(box, (left, top, left, top), (width, height, width, height), strict=True)
    )
    frame = f"left:{x0:.2f}%;top:{y0:.2f}%;width:{x1 - x0:.2f}%;height:{y1 - y0:.2f}%"
    return f'{veil}<div data-region="box" style="{place}{frame};border:1.5px solid {FRAME}"></div>'


def _veil(shares: NDArray[np.float64]) -> bytes:
    """A PNG of one colour that covers most where shares: float[h, w], 0–1, are largest."""
    from PIL import Image

    alpha = np.clip(shares, 0, 1) ** 1.5 * 190
    picture = np.empty((*shares.shape, 4), dtype=np.uint8)
    picture[..., :3], picture[..., 3] = VEIL, alpha.round()
    large = Image.fromarray(picture).resize((shares.shape[1] * 8, shares.shape[0] * 8), Image.Resampling.BICUBIC)
    target = io.BytesIO()
    large.save(target, "PNG")
    return target.getvalue()
