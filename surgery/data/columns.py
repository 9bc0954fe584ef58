"""What a column holds: values to numbers, and what the first rows say about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from surgery.data.findings import Findings
from surgery.data.reading import Numbers
from surgery.data.splits import NAMES
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
Dtype = Literal["integer", "number", "percent", "boolean", "date", "text", "empty"]
NUMERIC = ("integer", "number", "percent", "boolean")
COLLAPSED = 0.01  # share of different values that become equal in 32 bits, from which it is told
# Signs, digits in groups, a fraction, an exponent.
_WRITTEN: dict[Numbers, re.Pattern[str]] = {
    "1,234.5": re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d*)?(?:[eE][-+]?\d+)?"),
    "1.234,5": re.compile(r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d*)(?:,\d*)?(?:[eE][-+]?\d+)?"),
    "1 234,5": re.compile(r"[-+]?(?:\d{1,3}(?:[ \u00a0\u202f]\d{3})+|\d*)(?:,\d*)?(?:[eE][-+]?\d+)?"),
}
_GROUPS = {"": "", "1,234.5": ",", "1.234,5": ".", "1 234,5": " \u00a0\u202f"}
_DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[-+]\d{2}:?\d{2})?)?")
DAY = 86_400e6  # microseconds


@dataclass(frozen=True)
class ColumnInfo:
    """One column, judged by the first 10,000 rows.

    where: of the example. written: how its numbers seem to be written, where they are no plain ones. mixed: one of its
    percentages, where only some are. zeros: whether
    whole numbers begin with zeros, as codes do. same: two values that are one in 32 bits, where that is frequent.
    splits: whether its values are names of splits.
    """

    name: str
    dtype: Dtype
    distinct: int
    example: str
    is_row_number: bool = False  # counts the rows and has no name of its own: useless as a feature
    where: str = ""
    written: Numbers = ""
    mixed: str = ""
    zeros: bool = False
    same: str = ""
    splits: bool = False

    @property
    def task(self) -> Task:
        """What this column would be as a target, unless the user says otherwise."""
        few = self.dtype == "integer" and (self.distinct <= FEW or self.zeros)
        return "classification" if few or self.dtype in ("text", "boolean", "date") else "regression"

    @property
    def shown(self) -> str:
        """An example and where it stands."""
        return f"{self.example!r}, {self.where}" if self.where else repr(self.example)


def inspect(table: Table, written: Numbers = "") -> list[ColumnInfo]:
    """What every column holds. written: how numbers are written.

    Raises:
        DataError: the table has no rows.
    """
    block = next(table.blocks(Findings()), None)
    if block is None:
        raise DataError("The table has no rows that can be used.", "Save it with one line per sample below the names.")
    return [
        _judge(name, column[:SAMPLE], block.where, place, written)
        for place, (name, column) in enumerate(block.columns.items())
    ]


def numbers(values: Column, written: Numbers = "", *, percent: bool = False) -> NDArray[np.float64]:
    """float64[k]; NaN where a value is missing or is no number. "true" and "false" are 1 and 0.

    written: how numbers are written; one that is written otherwise is none. percent: all are percentages, "12%" is
    0.12; else none is.
    """
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    import pandas as pd  # late: images do not need it

    cells = [value[:DIGITS].strip() if isinstance(value, str) else value for value in values.tolist()]
    if percent:
        cells = [cell[:-1] if isinstance(cell, str) and cell.endswith("%") else None for cell in cells]
    if written:
        cells = [_respelled(cell, written) if isinstance(cell, str) else cell for cell in cells]
    found = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").to_numpy(np.float64, copy=True)
    for place in np.flatnonzero(np.isnan(found)).tolist():
        found[place] = TRUTH.get(_word(values[place]), np.nan)
    return found / 100 if percent else found


def days(values: Column) -> NDArray[np.float64]:
    """float64[k]: days since 1970-01-01 in UTC of dates such as 2026-01-31 or 2026-01-31 12:30; NaN for others."""
    import pandas as pd

    cells = [
        str(v).strip().replace("/", "-") if v is not None and _DATE.fullmatch(str(v).strip()) else None for v in values
    ]
    found = pd.to_datetime(pd.Series(cells, dtype=object), errors="coerce", utc=True, format="ISO8601")
    whole = found.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(whole), np.nan, whole.astype(np.int64) / DAY)


def _respelled(cell: str, written: Numbers) -> str | None:
    """A number as Python writes it; None where it is written otherwise."""
    if not _WRITTEN[written].fullmatch(cell):
        return None
    for mark in _GROUPS[written]:
        cell = cell.replace(mark, "")
    return cell.replace(",", ".") if written.endswith(",5") else cell


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
    known: Collection[str] = (),
) -> NDArray[np.int64]:
    """int64[k]: the rows of `values: [rows, names]` that hold a finite float32 everywhere; others are named.

    raw: (row, column) -> the value as it stands in the file. known: columns whose values must be known ones.
    """
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float32))
    for row in np.flatnonzero(bad.any(1)).tolist():
        name = names[int(bad[row].argmax())]
        value = raw(row, name)
        if is_missing(value):
            findings.skip(where[row], f"{name!r} is missing.", f"Fill it in, or drop the column {name!r}.")
        elif name in known:
            reason = f"{name!r} holds {str(value)[:40]!r}, which is none of its known values."
            findings.skip(where[row], reason, f"Correct the value, or leave the column {name!r} out.")
        else:
            reason = f"{name!r} holds {str(value)[:40]!r}, which is not a finite number."
            findings.skip(where[row], reason, "Write a plain number with a decimal point, or remove the row.")
    return np.flatnonzero(~bad.any(1))


def _judge(name: str, values: Column, where: Sequence[str], place: int, written: Numbers) -> ColumnInfo:
    rows = [row for row, value in enumerate(values.tolist()) if not is_missing(value)]
    if not rows:
        return ColumnInfo(name, "empty", 0, "")
    present = np.array([values[row] for row in rows], dtype=object)
    whole = [str(value).strip() for value in present.tolist()]
    texts = [text[:DIGITS] for text in whole]  # a text may have megabytes
    hundredths = [text.endswith("%") for text in texts]
    percent = all(hundredths)
    found = numbers(present, written, percent=percent)
    known = found[~np.isnan(found)]
    distinct, example = len(set(whole)), 0
    dtype: Dtype = "number"
    other: Numbers = ""
    if len(known) < len(present):
        other, example = _other([text.rstrip("%") for text in texts] if percent else texts, found, written)
    if 2 * len(known) < len(present):
        dtype = "date" if 2 * int(np.isfinite(days(present)).sum()) >= len(present) else "text"
        other = other if dtype == "text" else ""
    elif all(_word(value) in TRUTH for value in present):
        dtype = "boolean"
    elif percent:
        dtype = "percent"
    elif np.all(known == np.round(known)):
        dtype = "integer"
    nameless = name in (f"column {place + 1}", "Unnamed: 0", "__index_level_0__")
    counts = nameless and dtype == "integer" and len(known) == len(values) and bool(np.all(np.diff(known) == 1))
    counts = counts and (known[0] in (0, 1) or name != f"column {place + 1}")
    mixed = (
        "" if percent or dtype == "text" else next((t for t, some in zip(texts, hundredths, strict=True) if some), "")
    )
    return ColumnInfo(
        name,
        dtype,
        distinct,
        texts[example][:40],
        counts,
        where=where[rows[example]],
        written=other,
        mixed=mixed[:40],
        zeros=dtype == "integer" and any(len(text) > 1 and text[0] == "0" and text.isdigit() for text in texts),
        same=_same(known) if dtype in ("integer", "number") else "",
        splits=dtype == "text" and {text.lower() for text in texts} <= set(NAMES) and distinct > 1,
    )


def _other(texts: Sequence[str], found: NDArray[np.float64], written: Numbers) -> tuple[Numbers, int]:
    """How most of the values that are no plain numbers seem to be written, and one of them: ("", 0) for texts.

    Of "1,234" nobody can tell whether it is 1234 or 1.234: the first spelling that fits is only suggested.
    """
    odd = [place for place in np.flatnonzero(np.isnan(found)).tolist() if any(c.isdigit() for c in texts[place])]
    best: tuple[int, Numbers] = (0, "")
    for form, pattern in _WRITTEN.items():
        fits = sum(bool(pattern.fullmatch(texts[place])) for place in odd)
        best = max(best, (fits, form), key=lambda pair: pair[0])
    if written or not best[0]:
        return "", 0
    first = next(place for place in odd if _WRITTEN[best[1]].fullmatch(texts[place]))
    return best[1], first


def _same(known: NDArray[np.float64]) -> str:
    """Two different values that become one 32-bit number, in words, where that happens often; else ""."""
    values = np.unique(known)
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    equal = np.flatnonzero(small[1:] == small[:-1])
    if len(equal) <= COLLAPSED * len(values):
        return ""
    return f"{values[equal[0]]:.15g} and {values[equal[0] + 1]:.15g}"
