"""Before and after on a page: the measured table, coloured by what its words say, and its classes.

Works on the rows of a receipt; every word comes from `surgery.change`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from surgery import change
from surgery.ui.messages import _

Row = Mapping[str, Any]
PER_CLASS = ("accuracy", "new accuracy")  # shown as figures of classes, not as rows of the table
COLOURS = {"better": "blue", "worse": "orange", "same": "gray", "": "gray"}  # Streamlit's names; the words say the same


def overall(table: Sequence[Row], before: str, after: str) -> pd.DataFrame:
    """The table of everything that is not one class, each change worded and coloured by better and worse."""
    shown = [row for row in change.joined(table) if row["metric"] not in PER_CLASS or row["scope"] == "overall"]
    return pd.DataFrame(
        {
            _("Metric"): [change.title(row) for row in shown],
            before: [change.value(row, "before") for row in shown],
            after: [change.value(row, "after") for row in shown],
            _("Change"): [coloured(row) for row in shown],
            _("Measured on"): [change.measured_on(row) for row in shown],
        }
    )


def coloured(row: Row) -> str:
    """The change in words, in the color of its verdict."""
    return f":{COLOURS[change.verdict(row)]}[{change.worded(row)}]"


def per_class(table: Sequence[Row]) -> pd.DataFrame:
    """Columns scope, before, after in %, verdict: accuracy of every class; empty when there are no classes."""
    rows = [row for row in table if row["metric"] == "accuracy" and row["scope"] != "overall"]
    found = [
        (row["scope"], 100 * row["before"], 100 * row["after"], change.verdict(row))
        for row in rows
        if row["before"] is not None
    ]
    return pd.DataFrame(found, columns=["scope", "before", "after", "verdict"])
