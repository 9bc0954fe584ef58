"""CSV and Parquet as blocks of columns, read once from top to bottom.

A CSV is told by its content: delimiter and encoding are found, lines with too few or too many fields are named.
Values stay as they came: numbers or texts, None where Parquet has nothing.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from surgery.data.findings import Findings
from surgery.errors import DataError

MAX_COLUMNS = 10_000
MAX_LINE = 4_000_000  # characters of the first line of a CSV
CELLS = 500_000  # values held at once
DELIMITERS = ",;\t|"
ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}

Column = NDArray[Any]


@dataclass(frozen=True)
class Block:
    """Some rows: where each one stands in the file, and their values by column."""

    where: list[str]
    columns: dict[str, Column]

    def value(self, row: int, name: str) -> object:
        """One value as it stands in the file."""
        return self.columns[name][row : row + 1].tolist()[0]


class Table(ABC):
    """A table in a file, read in blocks of about CELLS values."""

    names: tuple[str, ...]

    @property
    def rows_at_once(self) -> int:
        """Rows of a block."""
        return max(1, CELLS // len(self.names))

    def count_blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.count_rows() // self.rows_at_once)

    @abstractmethod
    def blocks(self, findings: Findings) -> Iterator[Block]:
        """The rows, some at a time; unusable lines are named in `findings`."""

    @abstractmethod
    def count_rows(self) -> int:
        """How many rows there are; line breaks inside quoted values make a CSV look longer."""


class CsvTable(Table):
    """A text table whose first line names the columns.

    Raises:
        DataError: it is no text, has no header or too many columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.encoding = _encoding(path)
        first = self._first_line()
        self.delimiter = max(DELIMITERS, key=first.count)
        self.names = _names(next(csv.reader([first], delimiter=self.delimiter), []), path)

    def blocks(self, findings: Findings) -> Iterator[Block]:
        """The rows; lines with another number of fields are skipped and named.

        Raises:
            DataError: a quoted field has no end.
        """
        with self.path.open(encoding=self.encoding, errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=self.delimiter)
            next(reader)
            rows = self._rows(reader, findings)
            while part := list(islice(rows, self.rows_at_once)):
                cells = np.array([row for _, row in part], dtype=object)
                yield Block([where for where, _ in part], {name: cells[:, i] for i, name in enumerate(self.names)})

    def count_rows(self) -> int:
        """The lines below the header."""
        lines, last = 0, b"\n"
        with self.path.open("rb") as file:
            while part := file.read(1 << 20):
                lines, last = lines + part.count(b"\n"), part[-1:]
        return max(0, lines - (last in b"\n\0"))

    def _rows(self, reader: Any, findings: Findings) -> Iterator[tuple[str, list[str]]]:
        try:
            for row in reader:
                if len(row) == len(self.names):
                    yield f"line {reader.line_num}", row
                elif row:
                    findings.skip(
                        f"line {reader.line_num}",
                        f"It has {len(row)} fields, the header has {len(self.names)}.",
                        "Quote values that contain the delimiter, or complete the line.",
                    )
        except csv.Error as error:
            raise DataError(
                f"Line {reader.line_num} of {self.path.name!r} cannot be read: {error}.",
                "Close every quoted value, and save the table as UTF-8 text.",
            ) from error

    def _first_line(self) -> str:
        with self.path.open(encoding=self.encoding, errors="replace") as file:
            line = file.readline(MAX_LINE)
        if len(line) == MAX_LINE:
            raise DataError(
                f"The first line of {self.path.name!r} has more than {MAX_LINE:,} characters.",
                f"Save a table with at most {MAX_COLUMNS:,} columns and one line per row.",
            )
        return line.rstrip("\r\n")


class ParquetTable(Table):
    """A Parquet file.

    Raises:
        DataError: it is damaged or has too many columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path.name!r} is not a complete Parquet file: {error}.", "Save it again.") from error
        self.names = _names(self._file.schema_arrow.names, path)

    def blocks(self, findings: Findings) -> Iterator[Block]:
        """The rows.

        Raises:
            DataError: a page is damaged.
        """
        seen = 0
        try:
            for batch in self._file.iter_batches(self.rows_at_once):
                where = [f"row {seen + number + 1}" for number in range(batch.num_rows)]
                seen += batch.num_rows
                columns = [_plain(column) for column in batch.columns]
                yield Block(where, dict(zip(self.names, columns, strict=True)))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path.name!r} is damaged near row {seen + 1}: {error}.", "Save it again.") from error

    def count_rows(self) -> int:
        """What the file's own summary says."""
        return int(self._file.metadata.num_rows)


def open_table(path: Path, *, parquet: bool) -> Table:
    """The table in `path`.

    Raises:
        DataError: it cannot be read.
    """
    return ParquetTable(path) if parquet else CsvTable(path)


def _plain(column: pa.Array) -> Column:
    """Numbers as they are; everything that is no number becomes text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values: Column = column.to_numpy(zero_copy_only=False)
        return values
    if pa.types.is_boolean(column.type) and not column.null_count:
        return np.array([str(value) for value in column.to_pylist()], dtype=object)
    return np.array([None if value is None else str(value) for value in column.to_pylist()], dtype=object)


def _names(header: Sequence[str], path: Path) -> tuple[str, ...]:
    """Column names; one without a name is called by its place.

    Raises:
        DataError: too many columns, one only, two of the same name, or numbers where names belong.
    """
    if len(header) > MAX_COLUMNS:
        raise DataError(
            f"{path.name!r} has {len(header):,} columns; at most {MAX_COLUMNS:,} are read.",
            "Keep the columns that matter.",
        )
    if len(header) < 2:
        raise DataError(
            f"{path.name!r} has a single column; a table needs a feature and a target.",
            "Separate the columns with commas, semicolons or tabs.",
        )
    counted = [str(place) for place in range(len(header))]  # how pandas names columns that have no name
    if header != counted and all(_is_number(name) for name in header):
        raise DataError(
            f"The first line of {path.name!r} holds numbers ({', '.join(header[:4])} …), not column names.",
            "Add a first line that names the columns.",
        )
    names = tuple(name.strip() or f"column {place}" for place, name in enumerate(header, 1))
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path.name!r} has two columns named {twice!r}.", "Give every column its own name.")
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(1_000_000)
    for mark, encoding in ENCODINGS.items():
        if head.startswith(mark):
            return encoding
    return "utf-8"
