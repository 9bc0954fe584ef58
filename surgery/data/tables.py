"""A table file into a dataset: one column is the target, the others are numbers, unusable rows are named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from surgery.data.columns import FEW, ColumnInfo, inspect, is_missing, numbers, usable
from surgery.data.findings import Findings
from surgery.data.portions import Opening, Options, Place, Portion, Reader
from surgery.data.splits import spread
from surgery.data.tablefile import Block, Column, Table
from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.dataset import Task


def read_table(table: Table, options: Options, place: Place) -> Reader:
    """Give the rows of a table as numbers, without the columns that are dropped.

    Raises:
        DataError: the target is missing, a feature is text or empty, or the file is damaged.
    """
    findings = Findings()
    infos = {info.name: info for info in inspect(table)}
    goal = _goal(infos, options.target, options.task)
    features = _features(infos, [*options.drop, *goal], findings)
    words = any(infos[column].dtype in ("text", "boolean") for column in goal)
    opening = Opening(
        kind="table",
        row=(len(features),),
        count=table.count_rows(),
        exact=table.in_parts,
        stage="reading rows",
        few=FEW,
    )
    yield replace(
        opening,
        steps=table.count_blocks(),
        target="".join(goal),
        labels="none" if not goal else "words" if words else "numbers",
        features=tuple(features),
        parts=table.in_parts,
        findings=findings.drained(),
    )
    for block in table.blocks(findings, columns=[*features, *goal], place=place):
        yield _portion(block, features, goal, findings, words=words)


def _portion(block: Block, features: Sequence[str], goal: Sequence[str], findings: Findings, *, words: bool) -> Portion:
    """The usable rows of a block."""
    given = [_present(block.columns[column]) if words else numbers(block.columns[column]) for column in goal]
    values = np.column_stack([*(numbers(block.columns[feature]) for feature in features), *given])
    good = usable(block.where, (*features, *goal), values, block.value, findings)
    return Portion(
        samples=values[good, : len(features)],
        where=[block.where[row] for row in good.tolist()],
        words=[str(value).strip() for value in block.columns[goal[0]][good].tolist()] if words else None,
        numbers=values[good, -1] if goal and not words else None,
        next=block.next,
        done=block.done,
        findings=findings.drained(),
    )


def _present(values: Column) -> Column:
    """float64[k]: 0, or NaN where a label is missing."""
    return np.array([np.nan if is_missing(value) else 0.0 for value in values.tolist()], dtype=np.float64)


def peek_table(table: Table, limit: int, target: str | None) -> list[tuple[dict[str, object], str]]:
    """(row, label) of a few rows; with a target, in turn from every value that it takes."""
    block = next(table.blocks(Findings()), None)
    if block is None:
        return []
    shown = np.arange(min(limit, len(block.where)))
    labels = [""] * len(block.where)
    if target in block.columns:
        labels = [str(value).strip() for value in block.columns[target].tolist()]
        shown = spread(np.unique(labels, return_inverse=True)[1], limit, 0, even=True)
    return [
        ({name: block.value(row, name) for name in table.names if name != target}, labels[row])
        for row in shown.tolist()
    ]


def _goal(infos: Mapping[str, ColumnInfo], target: str | None, task: Task | None) -> list[str]:
    """The target as a list of one, or none when unlabelled."""
    if task == "unlabelled":
        return []
    if not target:
        raise DataError(
            f"The table has the columns {_listed(infos)}, and no target was chosen.",
            "Choose the column to predict, or import the table as unlabelled.",
        )
    if target not in infos:
        near = difflib.get_close_matches(target, infos, 1)
        hint = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise DataError(f"There is no target column {target!r}; the columns are {_listed(infos)}.", hint)
    if infos[target].dtype == "empty":
        raise DataError(f"The target column {target!r} is empty.", "Choose another, or fill it in.")
    return [target]


def _features(infos: Mapping[str, ColumnInfo], left_out: Sequence[str], findings: Findings) -> list[str]:
    """The columns that a model can take, refusing those that it cannot."""
    unknown = [name for name in left_out if name not in infos]
    if unknown:
        raise DataError(f"There is no column {unknown[0]!r} to drop.", f"The columns are {_listed(infos)}.")
    features = []
    for info in infos.values():
        if info.is_row_number and info.name not in left_out:
            findings.notes.append(f"{info.name!r} has no name and counts the rows: it was left out.")
        elif info.name not in left_out:
            features.append(info)
    for dtype, words in (("text", "text, which a model cannot take"), ("empty", "no value at all")):
        bad = [info.name for info in features if info.dtype == dtype]
        if bad:
            raise DataError(
                f"Found {words}, in {'columns' if len(bad) > 1 else 'column'} {_listed(bad)}.",
                "Encode the values as numbers, or drop the column.",
            )
    if not features:
        raise DataError("There is no column left to predict from.", "Keep at least one column of numbers.")
    return [info.name for info in features]


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
