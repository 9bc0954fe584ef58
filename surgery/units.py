"""Numbers as people read them, one rule for pages, receipts, the command line and errors.

`97.0%`, `−4.8 pp`, `1.24 MB`, `27,202`: shares to 0.1, a true minus, decimal prefixes, never an exponent.
"""

from __future__ import annotations

import math

MINUS = "−"
_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", " k", " M", " G", " T")
_SMALLEST = 1e-9  # what is nearer to 0 is shown as 0


def digits(value: float | None, places: int = 3) -> str:
    """Format a value with `places` significant digits and no exponent; "–" for nothing."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if abs(value) < _SMALLEST:
        return "0"
    decimals = max(0, places - 1 - math.floor(math.log10(abs(value))))
    return _true_minus(f"{value:,.{decimals}f}")


def decimals(value: float, places: int) -> str:
    """Format a value with `places` digits after the point."""
    return _true_minus(f"{value:,.{places}f}")


def percent(fraction: float | None) -> str:
    """Format a fraction 0–1 as `97.8%`."""
    return "–" if fraction is None or math.isnan(fraction) else _true_minus(f"{100 * fraction:.1f}%")


def points(change: float | None) -> str:
    """Format a difference of two fractions 0–1 in percentage points: `−4.8 pp`."""
    return "–" if change is None or math.isnan(change) else f"{signed(100 * change)} pp"


def signed(value: float, decimals: int = 1) -> str:
    """Format a difference with its sign: `−4.8`, `+0.3`; `±0.0` for none at all."""
    if value == 0:
        return f"±{0:.{decimals}f}"
    return _true_minus(f"{value:+,.{decimals}f}")


def signed_digits(value: float, places: int = 3) -> str:
    """Format a difference that is not a share with its sign and `places` significant digits: `−0.012`."""
    return digits(value, places) if value < 0 else ("±0" if value == 0 else f"+{digits(value, places)}")


def size(count: float | None) -> str:
    """Format bytes as `1.24 MB` (powers of 1000)."""
    return "–" if count is None else _scaled(count, tuple(f" {unit}" for unit in _BYTES))


def amount(count: float | None) -> str:
    """Format a count as `1.24 M`; exact below 10,000."""
    if count is None:
        return "–"
    return f"{count:,.0f}" if abs(count) < 10_000 else _scaled(count, _COUNTS)


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= 1000 and power < len(units) - 1:
        value /= 1000
        power += 1
    return (f"{value:.0f}" if power == 0 else digits(value)) + units[power]


def _true_minus(text: str) -> str:
    return text.replace("-", MINUS)
