"""What a column holds: values to numbers, and what the first rows say about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from surgery.data.findings import Findings
from surgery.data.tablefile import Column, Table
from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.dataset import Task

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-"))
TRUTH = {"true": 1.0, "false": 0.0}
SAMPLE = 10_000  # rows that are looked at
WORD = 40  # characters; no word for a missing or a true value is longer
DIGITS = 400  # characters of a number that are read: with more before its point it is not finite at any rate
FEW = 50  # different whole numbers that still look like classes
Dtype = Literal["integer", "number", "boolean", "text", "empty"]


@dataclass(frozen=True)
class ColumnInfo:
    """One column, judged by the first 10,000 rows."""

    name: str
    dtype: Dtype
    distinct: int
    example: str
    is_row_number: bool = False  # counts the rows and has no name of its own: useless as a feature

    @property
    def task(self) -> Task:
        """What this column would be as a target, unless the user says otherwise."""
        few = self.dtype == "integer" and self.distinct <= FEW
        return "classification" if few or self.dtype in ("text", "boolean") else "regression"


def inspect(table: Table) -> list[ColumnInfo]:
    """What every column holds.

    Raises:
        DataError: the table has no rows.
    """
    block = next(table.blocks(Findings()), None)
    if block is None:
        raise DataError("The table has no rows that can be used.", "Save it with one line per sample below the names.")
    return [_judge(name, column[:SAMPLE], place) for place, (name, column) in enumerate(block.columns.items())]


def numbers(values: Column) -> NDArray[np.float64]:
    """float64[k]; NaN where a value is missing or is not a number. "true" and "false" count as 1 and 0."""
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    import pandas as pd  # late: images do not need it

    cells = [value[:DIGITS] if isinstance(value, str) else value for value in values.tolist()]
    found = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").to_numpy(np.float64, copy=True)
    for place in np.flatnonzero(np.isnan(found)).tolist():
        found[place] = TRUTH.get(_word(values[place]), np.nan)
    return found


def is_missing(value: object) -> bool:
    """Whether nothing was filled in."""
    return value is None or _word(value) in MISSING


def _word(value: object) -> str:
    """A value as a word to compare; of a long text its beginning, because it may have megabytes."""
    text = str(value)
    return (text.strip() if len(text) < WORD or text.isspace() else text[:WORD]).lower()


def usable(
    where: Sequence[str],
    names: Sequence[str],
    values: NDArray[np.float64],
    raw: Callable[[int, str], object],
    findings: Findings,
) -> NDArray[np.int64]:
    """int64[k]: the rows of `values: [rows, names]` that hold a finite float32 everywhere; others are named.

    raw: (row, column) -> the value as it stands in the file.
    """
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float32))
    for row in np.flatnonzero(bad.any(1)).tolist():
        name = names[int(bad[row].argmax())]
        value = raw(row, name)
        if is_missing(value):
            findings.skip(where[row], f"{name!r} is missing.", f"Fill it in, or drop the column {name!r}.")
        else:
            reason = f"{name!r} holds {str(value)[:40]!r}, which is not a finite number."
            findings.skip(where[row], reason, "Write a plain number with a decimal point, or remove the row.")
    return np.flatnonzero(~bad.any(1))


def _judge(name: str, values: Column, place: int) -> ColumnInfo:
    present = [value for value in values.tolist() if not is_missing(value)]
    if not present:
        return ColumnInfo(name, "empty", 0, "")
    found = numbers(np.array(present, dtype=object))
    known = found[~np.isnan(found)]
    distinct = len({str(value).strip() for value in present})
    dtype: Dtype = "number"
    if 2 * len(known) < len(present):
        dtype = "text"
    elif all(_word(value) in TRUTH for value in present):
        dtype = "boolean"
    elif np.all(known == np.round(known)):
        dtype = "integer"
    nameless = name in (f"column {place + 1}", "Unnamed: 0", "__index_level_0__")
    counts = nameless and dtype == "integer" and len(known) == len(values) and bool(np.all(np.diff(known) == 1))
    return ColumnInfo(name, dtype, distinct, str(present[0])[:40], counts)
