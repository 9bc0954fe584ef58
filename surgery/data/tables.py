"""A table file into a dataset: one column is the target, the others are numbers, unusable rows are named."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from surgery.data import splits
from surgery.data.columns import FEW, SAMPLE, ColumnInfo, inspect, is_missing, numbers, usable
from surgery.data.encode import Features, choose, listed, settle, spelling
from surgery.data.findings import Findings
from surgery.data.portions import Opening, Options, Place, Portion, Reader
from surgery.data.reading import Reading, SplitUse
from surgery.data.tablefile import Block, Column, Table
from surgery.errors import DataError


def read_table(table: Table, options: Options, place: Place) -> Reader:
    """Give the rows of a table as numbers, without the columns that are dropped.

    Raises:
        DataError: the target is missing, a column needs a choice or is empty, or the file is damaged.
    """
    findings = Findings(notes=list(table.notes))
    written = spelling(options)
    infos = {info.name: info for info in inspect(table, written)}
    goal = _goal(infos, options, findings)
    split = _split_column(infos, options, goal)
    features = choose(infos, options, [*goal, *split], findings)
    fixed = dict(place.fixed)
    uses: Mapping[str, SplitUse] = {}
    roles: tuple[str, ...] = ("deal",)
    if fixed:
        kept = Reading.of(fixed["reading"]).columns
        features = features.with_encodings(kept)
    else:
        for given in settle(table, features):
            if given is None:
                yield None
            else:
                features = given
        if split:
            yield None
            uses = splits.uses(split_values(table, split[0]), options.splits)
            roles = splits.in_order(uses.values())
    words = any(
        infos[column].dtype in ("text", "boolean", "date") or _is_code(infos[column], options) for column in goal
    )
    reading = features.reading("".join(goal))
    opening = Opening(
        kind="table",
        row=(len(features.names),),
        count=table.count_rows(),
        exact=table.in_parts,
        stage="reading rows",
        few=FEW,
        named=table.classes if goal and goal[0] == table.names[-1] and not words else (),
        reading=reading,
        fixed={"reading": asdict(reading or Reading())},
    )
    yield replace(
        opening,
        steps=table.count_blocks() * len(roles),
        target="".join(goal),
        labels="none" if not goal else "words" if words else "numbers",
        features=features.names,
        parts=table.in_parts and not split,
        findings=findings.drained(),
    )
    reader = _Rows(table, features, goal, infos, words=words)
    for number, role in enumerate(roles):
        wanted = [*dict.fromkeys((*features.sources, *goal, *split))]
        for block in table.blocks(findings if not number else Findings(), columns=wanted, place=place):
            some = _of_role(block, split[0], uses, role) if split else block
            yield replace(reader.portion(some, findings), role="" if role == "deal" else role)


def _is_code(info: ColumnInfo, options: Options) -> bool:
    """Whether a target of whole numbers with leading zeros holds codes: 001 is not 1."""
    return info.zeros and options.task != "regression"


@dataclass(frozen=True)
class _Rows:
    """Blocks of a table to portions."""

    table: Table
    features: Features
    goal: Sequence[str]
    infos: Mapping[str, ColumnInfo]
    words: bool

    def portion(self, block: Block, findings: Findings) -> Portion:
        """The usable rows of a block."""
        goal, words, sources = self.goal, self.words, self.features.sources
        given = [_present(block.columns[column]) if words else self._targets(block.columns[column]) for column in goal]
        values = np.column_stack([self.features.of(block), *given])
        good = usable(block.where, (*sources, *goal), values, block.value, findings, self.features.categorical)
        target = values[good, -1] if goal and not words else None
        if target is not None and self.infos[goal[0]].dtype == "integer":
            self._require_no_codes(block, good)
        return Portion(
            samples=values[good, : len(sources)],
            where=[block.where[row] for row in good.tolist()],
            words=[str(value).strip() for value in block.columns[goal[0]][good].tolist()] if words else None,
            numbers=target,
            next=block.next,
            done=block.done,
            findings=findings.drained(),
        )

    def _targets(self, column: Column) -> NDArray[np.float64]:
        return numbers(column, self.features.written, percent=self.infos[self.goal[0]].dtype == "percent")

    def _require_no_codes(self, block: Block, good: NDArray[np.int64]) -> None:
        """Refuse labels with leading zeros that come behind the rows that were looked at."""
        info = self.infos[self.goal[0]]
        if info.zeros or self.table.in_parts:
            return
        for row in good.tolist():
            text = str(block.value(row, info.name)).strip()
            if len(text) > 1 and text[0] == "0" and text.isdigit():
                raise DataError(
                    f"The target {info.name!r} holds {text!r} in {block.where[row]}, but plain numbers in the first "
                    f"{SAMPLE:,} rows: {text!r} and {text.lstrip('0') or '0'!r} would become one.",
                    "Write such a label among the first rows, or put a letter before all labels.",
                )


def _split_column(infos: Mapping[str, ColumnInfo], options: Options, goal: Sequence[str]) -> list[str]:
    """The column that names each row's split, as a list of one, or none."""
    if not options.split:
        return []
    if options.split not in infos or options.split in goal:
        raise DataError(
            f"There is no column {options.split!r} that could name the splits.", f"The columns are {listed(infos)}."
        )
    return [options.split]


def split_values(table: Table, split: str) -> dict[str, int]:
    """How many rows each split has, by its name in the file."""
    found: Counter[str] = Counter()
    for block in table.blocks(Findings(), columns=[split]):
        found.update(_split_name(value) for value in block.columns[split].tolist())
        if len(found) > splits.MOST:
            raise DataError(
                f"The column {split!r} has more than {splits.MOST} different values: it names no splits.",
                "Choose another column.",
            )
    return dict(found)


def _of_role(block: Block, split: str, uses: Mapping[str, SplitUse], role: str) -> Block:
    """The rows of one role."""
    rows = np.array([uses[_split_name(value)] == role for value in block.columns[split].tolist()], dtype=bool)
    where = [place for place, own in zip(block.where, rows.tolist(), strict=True) if own]
    return Block(where, {name: column[rows] for name, column in block.columns.items()}, block.next, block.done)


def _split_name(value: object) -> str:
    return "" if is_missing(value) else str(value).strip().lower()


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
        shown = splits.spread(np.unique(labels, return_inverse=True)[1], limit, 0, even=True)
    return [
        ({name: block.value(row, name) for name in table.names if name != target}, labels[row])
        for row in shown.tolist()
    ]


def _goal(infos: Mapping[str, ColumnInfo], options: Options, findings: Findings) -> list[str]:
    """The target as a list of one, or none when unlabelled."""
    target = options.target or (options.like.target if options.like else "")
    if options.task == "unlabelled":
        return []
    if not target:
        raise DataError(
            f"The table has the columns {listed(infos)}, and no target was chosen.",
            "Choose the column to predict, or import the table as unlabelled.",
        )
    if target not in infos:
        near = difflib.get_close_matches(target, infos, 1)
        hint = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise DataError(f"There is no target column {target!r}; the columns are {listed(infos)}.", hint)
    info = infos[target]
    if info.dtype == "empty":
        raise DataError(f"The target column {target!r} is empty.", "Choose another, or fill it in.")
    if info.written and info.dtype != "text":
        raise DataError(
            f"The target {target!r} holds numbers in another spelling, for instance {info.shown}.",
            f"Say how numbers are written: --numbers '{info.written}' (it looks so).",
        )
    if info.mixed:
        raise DataError(
            f"The target {target!r} holds percentages such as {info.mixed!r} among plain numbers.",
            "Write all of its values in one way.",
        )
    if info.dtype == "percent":
        findings.notes.append(f"{target!r} holds percentages: {info.example!r} was read as a fraction of 1.")
    return [target]
