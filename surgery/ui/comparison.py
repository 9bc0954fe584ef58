"""Before and after in words: the measured table made readable, its classes, its flipped samples.

Works on the rows of a receipt: (metric, scope, before, after, change, unit, better, split, n), as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from surgery.charts import signed
from surgery.ui import format
from surgery.ui.messages import _

Row = Mapping[str, Any]
PER_CLASS = ("accuracy",)
NEW = "new accuracy"  # of new data, per class too
COSTS = ("parameters", "bytes", "MACs", "latency")  # changes are shares of what was there before
SPREAD = "latency IQR"  # rows that belong to the latency of the same scope


def names() -> dict[str, str]:
    """What a metric is called on pages."""
    return {
        "accuracy": _("Accuracy"),
        "r2": _("R²"),
        "mse": _("Mean squared error"),
        "new accuracy": _("Accuracy on new data"),
        "accuracy, task known": _("Accuracy of the old slice alone"),
        "new accuracy, task known": _("Accuracy on new data, among its new classes"),
        "new r2": _("R² on new data"),
        "new mse": _("Mean squared error on new data"),
        "agreement": _("Agreement with the version before"),
        "parameters": _("Parameters"),
        "bytes": _("Size of the weights"),
        "MACs": _("Multiply-adds per sample"),
        "latency": _("Time per pass"),
        "weights in memory": _("Weights in memory"),
        "memory of the process": _("Memory of the process"),
        "must-keep cases": _("Must-keep cases"),
        "loss": _("Loss per character"),
        "perplexity": _("Perplexity"),
        "new loss": _("Loss per character on new data"),
        "new perplexity": _("Perplexity on new data"),
    }


def overall(table: Sequence[Row], before: str, after: str) -> pd.DataFrame:
    """The table of everything that is not one class, each change worded and coloured by good and bad."""
    spread = {row["scope"]: row for row in table if row["metric"] == SPREAD}
    shown = [row for row in table if row["metric"] != SPREAD]
    shown = [row for row in shown if row["metric"] not in (*PER_CLASS, NEW) or row["scope"] == "overall"]
    return pd.DataFrame(
        {
            _("Measure"): [title(row) for row in shown],
            before: [value(row, "before", spread) for row in shown],
            after: [value(row, "after", spread) for row in shown],
            _("Change"): [worded(row, spread.get(row["scope"])) for row in shown],
            _("Measured on"): [measured_on(row) for row in shown],
        }
    )


def title(row: Row) -> str:
    """`Accuracy`, `Time · batch 32`."""
    if (row["metric"], row["scope"]) == ("agreement", "original"):
        return _("Agreement with the original")
    name = str(names().get(row["metric"], row["metric"]))
    return name if row["scope"] in ("overall", "") else f"{name} · {row['scope']}"


def value(row: Row, side: str, spread: Mapping[str, Row] | None = None) -> str:
    """One number with its unit; a time with its interquartile range, which `spread` has by scope."""
    number = row[side]
    if row["metric"] == "latency" and spread and row["scope"] in spread:
        return f"{format.digits(number)} {row['unit']} (IQR {format.digits(spread[row['scope']][side])})"
    if row["metric"] in ("parameters", "MACs"):
        return format.amount(number)
    if row["unit"] in ("fraction", "bytes"):
        return format.percent(number) if row["unit"] == "fraction" else format.size(number)
    return f"{format.digits(number)} {row['unit']}".strip()


def worded(row: Row, spread: Row | None = None) -> str:
    """The change, coloured; a difference in time that is smaller than its spread is said to be none."""
    if row["metric"] == "latency" and spread and row["change"] is not None:
        noise = max(spread["before"] or 0.0, spread["after"] or 0.0)
        if abs(row["change"]) <= noise:
            return f":gray[{_('within its spread')}]"
    return f":{colour(row)}[{change(row)}]"


def verdict(row: Row) -> str:
    """ "better", "worse" or "" where the change is none, unknown or neither."""
    if not row["change"] or row["better"] not in ("higher", "lower"):
        return ""
    return "better" if (row["change"] > 0) == (row["better"] == "higher") else "worse"


def change(row: Row) -> str:
    """The change with its direction and words: `▼ −0.3 points, worse`, `▼ −58 %, better`."""
    if row["change"] is None:
        return "–"
    words = {"better": f", {_('better')}", "worse": f", {_('worse')}", "": ""}[verdict(row)]
    mark = "▲ " if row["change"] > 0 else "▼ " if row["change"] < 0 else ""
    if row["unit"] == "fraction":
        return f"{mark}{signed(100 * row['change'])} {_('points')}{words}"
    if row["metric"] in COSTS and row["before"]:
        return f"{mark}{signed(100 * row['change'] / row['before'])} %{words}"
    return f"{mark}{signed(row['change'])}{words}"


def colour(row: Row) -> str:
    """Streamlit's name for the colour of good, bad and neither; the words say the same."""
    return {"better": "blue", "worse": "orange", "": "gray"}[verdict(row)]


def measured_on(row: Row) -> str:
    """`test, n = 360`, or where it was timed or counted."""
    if row["metric"] == "latency":
        return _("{where}, {n} passes").format(where=row["split"], n=row["n"])
    if row["n"]:
        return f"{row['split']}, n = {row['n']:,}" if row["split"] else f"n = {row['n']:,}"
    return str(row["split"] or "")


def per_class(table: Sequence[Row]) -> pd.DataFrame:
    """Columns scope, before, after in %: accuracy of every class; empty when there are no classes."""
    rows = [row for row in table if row["metric"] in PER_CLASS and row["scope"] != "overall"]
    found = [(row["scope"], 100 * row["before"], 100 * row["after"]) for row in rows if row["before"] is not None]
    return pd.DataFrame(found, columns=["scope", "before", "after"])


def losing(table: Sequence[Row]) -> str:
    """`Class 3 loses most: −12 points (n = 22)`; nothing where no class loses."""
    found = [row for row in table if row["metric"] in PER_CLASS and row["scope"] != "overall" and row["change"]]
    worst = min(found, key=lambda row: row["change"], default=None)
    if worst is None or worst["change"] >= 0:
        return ""
    return _("Class {name} loses most: {points} points (n = {n})").format(
        name=worst["scope"], points=signed(100 * worst["change"]), n=worst["n"]
    )


def caption(flip: Mapping[str, Any], classes: Sequence[str]) -> str:
    """`3 → 8`: what was answered before and after, one of which is the truth; of a window of text its losses."""
    if "losses" in flip:
        return " → ".join(f"{loss:.2f}" for loss in flip["losses"]) + " nats"
    return " → ".join(classes[flip[side]] if flip[side] >= 0 else "–" for side in ("before", "after"))
