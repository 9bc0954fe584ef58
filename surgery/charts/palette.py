"""Colours that mean something: one per class everywhere, cividis for amounts, blue against orange around zero.

The first seven class colours are those of Okabe and Ito, which people with any colour vision tell apart; black, the
eighth, would vanish on the dark theme. A wider list follows, then hues by the golden angle.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
WIDER = ("#7A5CC7", "#8C564B", "#A6D854", "#F781BF", "#17BECF", "#B2182B", "#5E8C31", "#FFB380", "#4C6A92")
GROUPED = "#9AA0A6"  # what is put together under "other"
CIVIDIS = ("#00224E", "#35456C", "#666970", "#948E77", "#C8B866", "#FEE838")
PALE = "#FFFBE6"
GOLDEN_ANGLE = 0.618034  # fraction of the colour circle


@dataclass(frozen=True)
class Ink:
    """The neutral colours of one theme, and its pair for better and worse."""

    text: str
    muted: str
    grid: str
    surface: str
    bar: str  # a quantity that is only context: "before", "kept"
    accent: str  # a quantity that is the subject: "after"
    better: str
    worse: str


LIGHT = Ink("#1F2430", "#667085", "#E4E7EC", "#FFFFFF", "#C3C9D4", "#3B5B92", "#0072B2", "#C05A00")
DARK = Ink("#E6E8EC", "#98A2B3", "#2F3542", "#14171F", "#4A5262", "#8FB3EA", "#56B4E9", "#F0A044")


def ink(dark: bool) -> Ink:
    """The neutral colours of the dark or the light theme."""
    return DARK if dark else LIGHT


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour for each class by its place in the project's list, so that it has the same one in every figure."""
    return {name: _nth(place) for place, name in enumerate(classes)}


def ordered_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour along cividis for names that have an order, such as the layers of a network."""
    last = max(len(names) - 1, 1)
    return {name: _between(CIVIDIS, place / last) for place, name in enumerate(names)}


def amounts(dark: bool, *, filled: bool = False) -> tuple[str, ...]:
    """Cividis from little to much. Much stands out from the ground: it is dark on a light one, bright on a dark one.

    filled: for cells that fill a figure, of which those with little shall be quiet: on a light ground they are pale.
    """
    if dark:
        return CIVIDIS
    return (PALE, *CIVIDIS[-2::-1]) if filled else CIVIDIS[::-1]


def scale(colours: Sequence[str]) -> list[list[object]]:
    """The colour scale of a figure: `[[0.0, colour], …, [1.0, colour]]`."""
    return [[place / (len(colours) - 1), colour] for place, colour in enumerate(colours)]


def shade(fraction: float, colours: Sequence[str]) -> str:
    """The colour of an amount 0–1 on the scale of `colours`."""
    return _between(colours, min(max(fraction, 0.0), 1.0))


def text_on(colour: str) -> str:
    """Black or white, whichever stands out more from `colour`: a contrast of at least 4.5 on any (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(colour)]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if light > 0.179 else "#FFFFFF"


def change_colours(changes: Sequence[float], better: str, dark: bool) -> list[str]:
    """Blue for a change for the better, orange for the worse, neutral for none.

    better: "higher", "lower" or "" (neither), for all changes.
    """
    tone = ink(dark)
    sign = {"higher": 1.0, "lower": -1.0}.get(better, 0.0)
    return [
        tone.muted if change * sign == 0 else tone.better if change * sign > 0 else tone.worse for change in changes
    ]


def verdict_colours(verdicts: Sequence[str], dark: bool) -> list[str]:
    """Blue for "better", orange for "worse", neutral for a difference that is not significant or has no better side."""
    tone = ink(dark)
    return [{"better": tone.better, "worse": tone.worse}.get(verdict, tone.muted) for verdict in verdicts]


def _nth(place: int) -> str:
    known = OKABE_ITO + WIDER
    if place < len(known):
        return known[place]
    hue = (place * GOLDEN_ANGLE) % 1.0
    return _hex(colorsys.hls_to_rgb(hue, 0.55, 0.55))


def _between(colours: Sequence[str], fraction: float) -> str:
    """The colour at `fraction` (0–1) of the way along `colours`."""
    place = fraction * (len(colours) - 1)
    left = min(int(place), len(colours) - 2)
    start, end = _rgb(colours[left]), _rgb(colours[left + 1])
    return _hex(tuple(a + (b - a) * (place - left) for a, b in zip(start, end, strict=True)))


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _hex(channels: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * channel):02X}" for channel in channels)
