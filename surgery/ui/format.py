"""How pages show numbers, durations and moments; the numbers themselves are formatted as everywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from surgery.ui.messages import _, plural
from surgery.units import amount, digits, percent, points, signed, signed_digits, size

__all__ = ["ago", "amount", "call", "digits", "percent", "points", "seconds", "signed", "signed_digits", "size"]


def seconds(duration: float | None) -> str:
    """Return a duration as `8 s`, `3 min 20 s` or `2 h 5 min`."""
    if duration is None or math.isnan(duration):
        return "–"
    whole = round(duration)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def call(name: str, arguments: Mapping[str, object]) -> str:
    """A constructor with its arguments, each of at most 60 letters."""
    shown = [f"{key}={str(value)[:60]}{'…' * (len(str(value)) > 60)}" for key, value in arguments.items()]
    return f"{name}({', '.join(shown)})"


def ago(moment: datetime | float | None, now: datetime | None = None) -> str:
    """Return how long ago `moment` was; a naive one and a number are taken as UTC."""
    if moment is None:
        return "–"
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    elif moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    passed = ((now or datetime.now(UTC)) - moment).total_seconds()
    if passed < 60:
        return _("just now")
    if passed < 3600:
        return plural("{count} minute ago", "{count} minutes ago", int(passed // 60))
    if passed < 86_400:
        return plural("{count} hour ago", "{count} hours ago", int(passed // 3600))
    return plural("{count} day ago", "{count} days ago", int(passed // 86_400))
