"""Numbers as people read them: three significant digits, a unit, a tabular form. One rule for every page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from surgery.ui.messages import _, plural

_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", " k", " M", " G", " T")


def digits(value: float | None, places: int = 3) -> str:
    """Return `value` with `places` significant digits and no exponent below a million; "–" for nothing."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.{places - 1}e}"
    decimals = max(0, places - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= step and power < len(units) - 1:
        value /= step
        power += 1
    return (f"{value:.0f}" if power == 0 else digits(value)) + units[power]


def size(count: float | None) -> str:
    """Return bytes as `1.24 MB` (powers of 1000)."""
    return "–" if count is None else _scaled(count, 1000, tuple(f" {unit}" for unit in _BYTES))


def amount(count: float | None) -> str:
    """Return a large count as `1.24 M`; exact below 10,000."""
    if count is None:
        return "–"
    return f"{count:,.0f}" if abs(count) < 10_000 else _scaled(count, 1000, _COUNTS)


def percent(fraction: float | None) -> str:
    """Return a fraction 0–1 as `97.8 %`."""
    return "–" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.1f} %"


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
