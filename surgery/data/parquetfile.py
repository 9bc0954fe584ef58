"""Parquet as blocks of columns: read page by page, some row groups at a time, texts without being repeated.

How many rows are held at once follows from the sizes in the file's own summary; where that lies, the limits of the
process that reads it hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from surgery.data import limits
from surgery.data.findings import Findings
from surgery.data.portions import Place
from surgery.data.tablefile import Block, Column, Table, column_names
from surgery.errors import DataError
from surgery.sandbox import described

VALUE_BYTES = 10**6  # of a value, on average
JUDGED = 20  # row groups whose sizes are looked at
PAGE_BUFFER = 1 << 20  # bytes of a column that are read from the disk at once


class ParquetTable(Table):
    """A Parquet file.

    Raises:
        DataError: it is damaged, has too many columns, or one of its values would be too large.
    """

    in_parts = True

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            schema = pq.read_schema(path)
            texts = [field.name for field in schema if _is_text(field.type)]
            self._file = pq.ParquetFile(
                path, read_dictionary=texts, memory_map=False, pre_buffer=False, buffer_size=PAGE_BUFFER
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path.name!r} is not a complete Parquet file: {described(error)}.", "Save it again."
            ) from error
        self.names = column_names(schema.names, path)
        self._own = dict(zip(self.names, schema.names, strict=True))  # the names as the file spells them
        self._types = dict(zip(self.names, schema.types, strict=True))
        self._check_values()

    def blocks(
        self, findings: Findings, *, columns: Sequence[str] | None = None, place: Place | None = None
    ) -> Iterator[Block]:
        """The rows; a column of lists or structures holds only the name of its type.

        Raises:
            DataError: a page is damaged.
        """
        place = place or Place()
        wanted = [name for name in self.names if columns is None or name in columns]
        read = [name for name in wanted if not _is_nested(self._types[name])]
        seen, skip = sum(map(self._rows_of, range(place.start))), place.skip
        try:
            for first, last in self._groups(place.start, place.alone):
                begins, total = seen, sum(map(self._rows_of, range(first, last)))
                for batch in self._batches(range(first, last), read):
                    left = min(skip, batch.num_rows)
                    rows, skip = batch.slice(left), skip - left
                    where = [f"row {seen + left + number + 1}" for number in range(rows.num_rows)]
                    seen += batch.num_rows
                    ends = seen - begins >= total
                    values = {name: self._column(rows, name, seen) for name in wanted}
                    # Also without rows, when all were skipped: where reading goes on is news.
                    yield Block(where, values, next=last if ends else first, done=0 if ends else seen - begins)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path.name!r} is damaged near row {seen + 1}: {described(error)}.", "Save it again."
            ) from error

    def count_rows(self) -> int:
        """What the file's own summary says."""
        return int(self._file.metadata.num_rows)

    def part_at(self, start: int) -> str:
        """The rows of the row group `start`, in words."""
        before = sum(map(self._rows_of, range(start)))
        return f"rows {before + 1:,} to {before + self._rows_of(start):,}"

    def _batches(self, groups: range, read: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Batches of the columns `read`; without any, empty ones of the right length."""
        rows = self._rows_within(groups)
        if read:
            own = [self._own[name] for name in read]
            yield from self._file.iter_batches(rows, row_groups=list(groups), columns=own, use_threads=False)
            return
        left = sum(map(self._rows_of, groups))
        while left > 0:
            yield pa.record_batch({"": pa.nulls(min(rows, left))})
            left -= rows

    def _column(self, batch: pa.RecordBatch, name: str, seen: int) -> Column:
        kind = self._types[name]
        if _is_nested(kind):
            return np.full(batch.num_rows, f"[{str(kind)[:40]}]", dtype=object)
        try:
            return plain(batch.column(self._own[name]))
        except (ValueError, OverflowError, KeyError, pa.ArrowException) as error:
            raise DataError(
                f"The column {name!r} of {self.path.name!r} cannot be read near row {seen}: {described(error)}.",
                "Save the column as numbers or as text.",
            ) from error

    def _groups(self, start: int, alone: bool) -> Iterator[tuple[int, int]]:
        """[first, last) row groups that are read together: as many as are held at once, at least one."""
        first, count = start, self._file.metadata.num_row_groups
        while first < count:
            last, rows = first + 1, self._rows_of(first)
            while not alone and last < count and rows + self._rows_of(last) <= self.rows_at_once:
                rows += self._rows_of(last)
                last += 1
            yield first, last
            first = last

    def _rows_of(self, group: int) -> int:
        return max(0, int(self._file.metadata.row_group(group).num_rows))

    def _rows_within(self, groups: range) -> int:
        """Rows of these row groups that are held at once."""
        size = sum(max(0, int(self._file.metadata.row_group(group).total_byte_size)) for group in groups)
        width = size // max(1, sum(map(self._rows_of, groups)))
        return max(1, min(self.rows_at_once, limits.BLOCK_BYTES // max(1, width)))

    def _check_values(self) -> None:
        """Refuse values that are too large to be held, by the sizes that the file declares."""
        read = {own for name, own in self._own.items() if not _is_nested(self._types[name])}
        facts = self._file.metadata
        for group in range(min(facts.num_row_groups, JUDGED)):
            for place in range(facts.num_columns):
                column = facts.row_group(group).column(place)
                size = column.total_uncompressed_size / max(1, column.num_values)
                if size > VALUE_BYTES and column.path_in_schema in read:
                    raise DataError(
                        f"A value of the column {column.path_in_schema!r} of {self.path.name!r} needs "
                        f"{limits.figure(size)}; a value may have {limits.figure(VALUE_BYTES)}.",
                        "Leave such a column out when you save the table.",
                    )


def plain(column: pa.Array) -> Column:
    """Numbers as they are; everything that is no number becomes text, cut off at `limits.CELL` characters."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _repeated(column)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values: Column = column.to_numpy(zero_copy_only=False)
        return values
    return np.array([None if value is None else _text(value) for value in _values(column)], dtype=object)


def _repeated(column: pa.DictionaryArray) -> Column:
    """A dictionary's values where its numbers say so: the values that occur are made once."""
    places = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    used, back = np.unique(places, return_inverse=True)
    known = used[used >= 0]
    values = plain(column.dictionary.take(pa.array(known)))
    if len(known) < len(used):
        values = np.array([None, *values.tolist()], dtype=object)
    found: Column = values[back]
    return found


def _values(column: pa.Array) -> list[Any]:
    """As Python objects; what Python cannot hold, a date of the year 300,000, as text."""
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        values = column.cast(pa.string()).to_pylist()
    return values


def _text(value: object) -> str:
    text = value[: limits.CELL].decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text[: limits.CELL]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind))


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind)) or isinstance(kind, pa.BaseExtensionType)
