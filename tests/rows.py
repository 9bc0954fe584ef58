"""Rows of a before/after table, and a receipt around them, for tests of how a change is worded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surgery.receipt import Receipt


def line(metric: str, before: float | None, after: float | None, scope: str = "overall", **more: Any) -> dict[str, Any]:
    """One row, by default of a share of 100 test samples."""
    change = None if before is None or after is None else after - before
    row = {"metric": metric, "scope": scope, "before": before, "after": after, "change": change}
    return row | {"unit": "fraction", "better": "higher", "split": "test", "n": 100, **more}


def times(before: float, after: float, spread: float) -> list[dict[str, Any]]:
    """A latency at batch 32 with its interquartile range, in ms."""
    about = {"scope": "batch 32", "unit": "ms", "better": "lower", "split": "cpu, 1 thread", "n": 30}
    return [line("latency", before, after, **about), line("latency IQR", spread, spread, **about | {"better": ""})]


def receipt(table: Sequence[Mapping[str, Any]] = (), *, flips: Mapping[str, Any] | None = None) -> Receipt:
    """A receipt of cats and dogs with this table."""
    none = {"lost": [], "won": [], "lost_count": 0, "won_count": 0}
    about = {"digest": "sha256:data", "task": "classification", "classes": ["cat", "dog"]}
    return Receipt("Remove neurons", {"inputs": []}, about, list(table), flips or none, {}, {}, 1.0)
