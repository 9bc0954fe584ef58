"""Columns of a table to features: as numbers, as one of each category, as a rank, as days, as an offset, or not at all.

Which categories there are and where days begin is found in one pass over the table, or taken from the reading of an
earlier dataset, so that a feature always means the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from surgery.data.columns import ColumnInfo, days, is_missing, numbers
from surgery.data.findings import Findings
from surgery.data.labels import natural
from surgery.data.limits import NAME
from surgery.data.portions import Options
from surgery.data.reading import Encoding, How, Numbers, Reading
from surgery.data.tablefile import MAX_COLUMNS, Block, Column, Table
from surgery.errors import DataError

CATEGORIES = 1_000  # of one column
CHOICE = "Choose for each: --column '{name}=one-hot', ordinal or drop; for dates days (on the page, beside its name)."


@dataclass(frozen=True)
class Features:
    """The columns that become features, in order, each with what is done to it. written: how numbers are written."""

    columns: tuple[tuple[ColumnInfo, Encoding], ...]
    written: Numbers = ""
    dropped: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(name for _, one in self.columns for name in one.features())

    @property
    def sources(self) -> tuple[str, ...]:
        """The column that each feature comes from."""
        return tuple(one.column for _, one in self.columns for _ in one.features())

    @property
    def categorical(self) -> frozenset[str]:
        """The columns whose values must be known ones."""
        return frozenset(one.column for _, one in self.columns if one.how in ("one-hot", "ordinal"))

    def of(self, block: Block) -> NDArray[np.float64]:
        """float64[rows, features]; NaN where a value cannot be used."""
        parts = [_encoded(block.columns[one.column], info, one, self.written) for info, one in self.columns]
        return np.column_stack(parts)

    def with_encodings(self, kept: Sequence[Encoding]) -> Features:
        """The same features with categories and beginnings that were found before."""
        found = {one.column: one for one in kept}
        return replace(self, columns=tuple((info, found.get(info.name, one)) for info, one in self.columns))

    def reading(self, target: str) -> Reading | None:
        """What is recorded of it; None where every column is a plain number."""
        kept = tuple(one for _, one in self.columns if one.how != "number")
        kept += tuple(Encoding(name, "drop") for name in self.dropped)
        return Reading(target, self.written, kept) if kept or self.written else None


def choose(infos: Mapping[str, ColumnInfo], options: Options, apart: Sequence[str], findings: Findings) -> Features:
    """The columns that become features, each with what was chosen for it; categories are still to be found.

    apart: columns that are no features: the target, the split.

    Raises:
        DataError: a column does not exist, or holds what needs a choice; an example with its place is shown.
    """
    chosen = _chosen(infos, options, apart)
    left_out = {*apart, *(name for name, one in chosen.items() if one.how == "drop")}
    columns = []
    for info in infos.values():
        if info.is_row_number and info.name not in left_out and info.name not in chosen:
            findings.notes.append(f"{info.name!r} has no name and counts the rows: it was left out.")
        elif info.name not in left_out:
            columns.append((info, chosen.get(info.name, Encoding(info.name, "number"))))
    if options.like and options.like.order:
        columns = _ordered(columns, options.like, findings)
    _refuse(columns)
    if not columns:
        raise DataError("There is no column left to predict from.", "Keep at least one column.")
    for info, one in columns:
        if info.same and one.how == "number":
            findings.warn(
                f"column {info.name!r}",
                f"Samples are stored with 32 bits, in which {info.same} are the same number.",
                f"Import it counted from its smallest value: --column '{info.name}=offset'.",
            )
        if info.dtype == "percent" and one.how == "number":
            findings.notes.append(f"{info.name!r} holds percentages: {info.example!r} was read as a fraction of 1.")
    dropped = tuple(name for name, one in chosen.items() if one.how == "drop" and name not in apart)
    return Features(tuple(columns), spelling(options), dropped)


def spelling(options: Options) -> Numbers:
    """How numbers are written: as the user says, else as in the earlier dataset."""
    return options.numbers or (options.like.numbers if options.like else "")


def settle(table: Table, features: Features) -> Iterator[Features | None]:
    """The same features with their categories and beginnings, found in one pass; None between are signs of life.

    Raises:
        DataError: a column has too many categories, or no value.
    """
    open_ = [(info, one) for info, one in features.columns if one.how not in ("number", "drop") and not _settled(one)]
    if not open_:
        yield features
        return
    seen: dict[str, dict[str, None]] = {one.column: {} for _, one in open_}
    least: dict[str, float] = {}
    for block in table.blocks(Findings(), columns=[*seen]):
        for _, one in open_:
            column = block.columns[one.column]
            if one.how in ("days", "offset"):
                values = days(column) if one.how == "days" else numbers(column, features.written)
                if np.isfinite(values).any():
                    least[one.column] = min(least.get(one.column, np.inf), float(np.nanmin(values)))
            else:
                _collect(one, column, seen[one.column])
        yield None
    found = {
        one.column: _begun(one, least) if one.how in ("days", "offset") else _sorted(one, seen) for _, one in open_
    }
    done = replace(features, columns=tuple((info, found.get(one.column, one)) for info, one in features.columns))
    if len(done.names) > MAX_COLUMNS:
        raise DataError(
            f"The columns become {len(done.names):,} features; at most {MAX_COLUMNS:,} are read.",
            "Choose ordinal instead of one-hot, or leave columns out.",
        )
    twice = (
        {name for name in done.names if done.names.count(name) > 1} if len(set(done.names)) < len(done.names) else ()
    )
    if twice:
        raise DataError(f"Two features would be named {min(twice)!r}.", "Rename a column.")
    yield done


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names in quotes, the first few."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _chosen(infos: Mapping[str, ColumnInfo], options: Options, apart: Sequence[str]) -> dict[str, Encoding]:
    """What was said about columns: by an earlier reading, then by the user."""
    found = {one.column: one for one in options.like.columns} if options.like else {}
    said: dict[str, How] = {**dict.fromkeys(options.drop, "drop"), **options.columns}
    found = {name: one for name, one in found.items() if name in infos or one.how != "drop"}
    for name in {**found, **said}:
        if name not in infos:
            near = difflib.get_close_matches(name, infos, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            action = "to drop" if said.get(name) == "drop" else "to read"
            raise DataError(f"There is no column {name!r} {action}.", f"{hint}The columns are {listed(infos)}.")
    for name, how in said.items():
        if name in apart and how != "drop":
            raise DataError(f"The column {name!r} is the target or the split, not a feature.", "Name another column.")
        if how == "days" and infos[name].dtype != "date":
            raise DataError(
                f"The column {name!r} holds no dates, for instance {infos[name].shown}.", "Write dates as 2026-01-31."
            )
        if how == "offset" and infos[name].dtype not in ("integer", "number"):
            raise DataError(
                f"The column {name!r} holds no numbers, for instance {infos[name].shown}.", CHOICE.format(name=name)
            )
        found[name] = Encoding(name, how)
    return found


def _ordered(
    columns: Sequence[tuple[ColumnInfo, Encoding]], like: Reading, findings: Findings
) -> list[tuple[ColumnInfo, Encoding]]:
    """The columns of an earlier dataset's features, in their order; others are left out.

    Raises:
        DataError: one is missing.
    """
    by_feature = {feature: pair for pair in columns for feature in pair[1].features()}
    if missing := [name for name in like.order if name not in by_feature]:
        raise DataError(
            f"The earlier dataset has the features {listed(missing)}, which this file does not have.",
            "Give its columns the names that they had, or import it on its own.",
        )
    kept = list({by_feature[name][0].name: by_feature[name] for name in like.order}.values())
    names = {info.name for info, _ in kept}
    if extra := [info.name for info, _ in columns if info.name not in names]:
        findings.notes.append(f"Left out, because the earlier dataset does not have them: {listed(extra)}.")
    return kept


def _refuse(columns: Sequence[tuple[ColumnInfo, Encoding]]) -> None:
    plain = [info for info, one in columns if one.how == "number"]
    for info in plain:
        if info.written:
            raise DataError(
                f"The column {info.name!r} holds numbers in another spelling, for instance {info.shown}.",
                f"Say how numbers are written: --numbers '{info.written}' (it looks so), or one of '1,234.5', "
                "'1.234,5', '1 234,5'.",
            )
        if info.mixed:
            raise DataError(
                f"The column {info.name!r} holds percentages such as {info.mixed!r} among plain numbers.",
                "Write all of its values in one way.",
            )
    if words := [info for info in plain if info.dtype in ("text", "date")]:
        shown = "; ".join(f"{info.name!r} ({info.shown})" for info in words[:5])
        more = f"; and {len(words) - 5:,} more" if len(words) > 5 else ""
        split = next(
            (f" {info.name!r} looks like the split: --split-column {info.name}." for info in words if info.splits), ""
        )
        raise DataError(
            f"Text or dates, which a model cannot take as they are, in {len(words)} "
            f"column{'s' if len(words) > 1 else ''}: {shown}{more}.",
            CHOICE.format(name=words[0].name) + split,
        )
    if empty := [info.name for info in plain if info.dtype == "empty"]:
        raise DataError(
            f"Found no value at all in {'columns' if len(empty) > 1 else 'column'} {listed(empty)}.",
            "Fill it in, or drop the column (--drop NAME).",
        )


def _settled(one: Encoding) -> bool:
    return bool(one.values or one.start)


def _collect(one: Encoding, column: Column, seen: dict[str, None]) -> None:
    for value in column.tolist():
        if not is_missing(value):
            seen[str(value).strip()] = None
    if len(seen) > CATEGORIES or any(len(value) > NAME for value in seen):
        raise DataError(
            f"The column {one.column!r} has more than {CATEGORIES:,} different values or very long ones, for instance "
            f"{[*seen][-1][:40]!r}: it is no category.",
            f"Leave it out: --drop {one.column}.",
        )


def _sorted(one: Encoding, seen: Mapping[str, Mapping[str, None]]) -> Encoding:
    return replace(one, values=tuple(sorted((value for value in seen[one.column]), key=natural)))


def _begun(one: Encoding, least: Mapping[str, float]) -> Encoding:
    if one.column not in least:
        raise DataError(f"The column {one.column!r} has no value that can be read.", "Leave it out.")
    if one.how == "offset":
        return replace(one, start=repr(least[one.column]))
    return replace(one, start=str(np.datetime64(0, "D") + np.timedelta64(int(np.floor(least[one.column])), "D")))


def _encoded(column: Column, info: ColumnInfo, one: Encoding, written: Numbers) -> NDArray[np.float64]:
    """float64[rows, features of the column]."""
    if one.how == "days":
        return (days(column) - float(np.datetime64(one.start, "D").astype(np.int64)))[:, None]
    if one.how in ("number", "offset"):
        values = numbers(column, written, percent=info.dtype == "percent")
        return (values - float(one.start or 0))[:, None]
    place = {value: number for number, value in enumerate(one.values)}
    rank = np.array([place.get(str(value).strip(), -1) if not is_missing(value) else -1 for value in column.tolist()])
    if one.how == "ordinal":
        return np.where(rank < 0, np.nan, rank.astype(np.float64))[:, None]
    encoded: NDArray[np.float64] = (rank[:, None] == np.arange(len(one.values))).astype(np.float64)
    encoded[rank < 0] = np.nan
    return encoded
