"""Whether a result is good enough to become current by itself: what a project allows, and what speaks against it.

Judged on the classes that both versions have; a class that is gone without having been asked for speaks against it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from surgery import change
from surgery.receipt import Receipt
from surgery.tell import preserved, removed_classes
from surgery.workspace.settings import Settings

NAMED = 3  # classes in a sentence; the others are counted
_ROUNDING = 1e-9
Row = Any


def objections(receipt: Receipt, settings: Settings, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Why a result waits for a decision instead of becoming current, a sentence each; () where nothing does.

    asked: the classes that it was asked to drop.
    """
    return tuple(_objections(receipt, settings, asked))


def _objections(receipt: Receipt, settings: Settings, asked: Sequence[str]) -> Iterator[str]:
    if removed := [name for name in removed_classes(receipt) if name not in asked]:
        yield f"no output any more for {_some(removed)}"
    if receipt.breaks:
        allowed = int(receipt.plan.get("preserve", {}).get("may_break", 0))
        yield f"{preserved(receipt.cases)}, {allowed} allowed"
    for metric, name in (("accuracy", "accuracy"), ("r2", "R²")):
        row = receipt.row(metric)
        if row is not None and row["before"] is not None:
            yield from _overall(row, name, settings.drop)
    yield from _classes(receipt, settings.class_drop)


def _overall(row: Row, name: str, allowed: float) -> Iterator[str]:
    if row["after"] is None:
        yield f"{name} cannot be measured any more on {change.measured_on(row)}"
    elif _lost(row) > allowed + _ROUNDING:
        lost, most = (_number(value, name) for value in (_lost(row), allowed))
        yield f"{name} fell by {lost} on {change.measured_on(row)} ({most} allowed)"


def _classes(receipt: Receipt, allowed: float) -> Iterator[str]:
    rows = [row for row in receipt.table if row["metric"] == "accuracy" and row["scope"] != "overall"]
    worse = [row for row in rows if row["change"] is not None and _lost(row) > allowed + _ROUNDING]
    if worse:
        worse.sort(key=_lost, reverse=True)
        told = ", ".join(f"{row['scope']} by {_lost(row):.1f} pp (n = {row['n']:,})" for row in worse[:NAMED])
        more = f" and {len(worse) - NAMED:,} more" if len(worse) > NAMED else ""
        split = change.splits().get(worse[0]["split"], worse[0]["split"])
        yield f"accuracy fell in class {told}{more} on {split} ({allowed:.1f} pp allowed)"


def _lost(row: Row) -> float:
    """The drop in pp."""
    return -100 * float(row["change"])


def _number(points: float, name: str) -> str:
    return f"{points:.1f} pp" if name == "accuracy" else f"{points / 100:.3f}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:NAMED])}{more}"
