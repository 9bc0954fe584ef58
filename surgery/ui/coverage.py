"""How much of a network its numbered neurons are, in words: what surgery reaches, and what it leaves whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.ui import format
from surgery.ui.messages import _

SHOWN = 3  # modules that are named
WORTH = 0.005  # share of the parameters from which one is worth a name


def share(found: Mapping[str, Any]) -> float | None:
    """The fraction of the parameters that belong to numbered neurons; None where the version does not know it."""
    numbered, parameters = found.get("numbered"), found["parameters"]
    return None if numbered is None or not parameters else numbered / parameters


def left_whole(found: Mapping[str, Any]) -> str:
    """ "Not numbered: lstm (1.36 M), tok (51.2 k)."; "" where nothing worth a name is.

    found: architecture.json of a version.
    """
    parameters = max(found["parameters"], 1)
    large = [(name, count) for name, count in found.get("unnumbered", {}).items() if count / parameters >= WORTH]
    if not large or share(found) is None:
        return ""
    named = ", ".join(f"{name} ({format.amount(count)})" for name, count in large[:SHOWN])
    if len(large) > SHOWN:
        named = _("{names} and {count} more").format(names=named, count=len(large) - SHOWN)
    return _("Not numbered: {modules}.").format(modules=named)


def sentence(found: Mapping[str, Any]) -> str:
    """ "4.1% of the parameters are in numbered neurons. Not numbered: lstm (1.36 M)."; "" where it is not known."""
    known = share(found)
    if known is None:
        return ""
    said = _("{share} of the parameters are in numbered neurons.").format(share=percent(known))
    return f"{said} {left_whole(found)}".strip()


def percent(fraction: float) -> str:
    """A share as `4.1%`; never 100% or 0% of what is not all or nothing."""
    shown = min(max(round(100 * fraction, 1), 0.1 if fraction > 0 else 0.0), 99.9 if fraction < 1 else 100.0)
    return f"{shown:g}%"
