"""Tables as blocks of columns, read once from top to bottom.

A CSV is told by its content (`surgery.data.preamble`); lines with too few or too many fields are named.
Values stay as they came: numbers or texts, None where Parquet has nothing.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from surgery.data import limits
from surgery.data.findings import Findings
from surgery.data.names import visible
from surgery.data.portions import Place
from surgery.data.preamble import BROKEN, MAX_LINE, SENTENCE, survey, text_of, unpacked
from surgery.data.reading import Header
from surgery.errors import DataError

MAX_COLUMNS = 10_000
MAX_ROW = 16_000_000  # characters of one row of a CSV, whose quoted values may span lines
CELLS = 500_000  # values held at once
COUNTED = 512 * 10**6  # bytes of a CSV in which lines are counted; beyond, their number is estimated

Column = NDArray[Any]


@dataclass(frozen=True)
class Block:
    """Some rows: where each one stands in the file, and their values by column."""

    where: list[str]
    columns: dict[str, Column]
    next: int = 0  # where reading goes on: a row group of a Parquet file
    done: int = 0  # rows from there that were given already

    def value(self, row: int, name: str) -> object:
        """One value as it stands in the file."""
        return self.columns[name][row : row + 1].tolist()[0]


class Table(ABC):
    """A table in a file, read in blocks of about CELLS values."""

    names: tuple[str, ...]
    in_parts = False  # whether reading can begin within it
    classes: tuple[str, ...] = ()  # what the numbers of the last column stand for, where the file says so
    notes: tuple[str, ...] = ()  # what was taken for what

    @property
    def rows_at_once(self) -> int:
        """Rows of a block."""
        return max(1, CELLS // len(self.names))

    def count_blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.count_rows() // self.rows_at_once)

    @abstractmethod
    def blocks(
        self, findings: Findings, *, columns: Sequence[str] | None = None, place: Place | None = None
    ) -> Iterator[Block]:
        """The rows, some at a time; unusable lines are named in `findings`.

        columns: only these; of a CSV all are read at any rate. place: where to begin, in a file of parts.
        """

    def part_at(self, start: int) -> str:
        """Name the part at a place."""
        return "the table"

    @abstractmethod
    def count_rows(self) -> int:
        """How many rows there are; line breaks inside quoted values make a CSV look longer."""


class CsvTable(Table):
    """A text table, perhaps packed; what its first line is, is told by `header` or by its content.

    Raises:
        DataError: it is no text, has no columns or too many.
    """

    def __init__(self, path: Path, header: Header = "auto") -> None:
        self.path = path
        self.preamble = survey(path, header)
        self.names = column_names(self.preamble.names, path)
        self.classes = self.preamble.classes
        self.notes = self.preamble.notes

    def blocks(
        self, findings: Findings, *, columns: Sequence[str] | None = None, place: Place | None = None
    ) -> Iterator[Block]:
        """The rows; lines with another number of fields are skipped and named.

        Raises:
            DataError: a quoted field has no end, or a row is too long.
        """
        form = self.preamble
        try:
            with text_of(self.path, form.packing, form.encoding) as file:
                lines = _Lines(file, self.path.name, form.skip, strip=form.delimiter == " ")
                reader = csv.reader(
                    lines, delimiter=form.delimiter, quotechar=form.quote, skipinitialspace=form.delimiter == " "
                )
                rows = self._rows(reader, lines, findings)
                if form.has_names:
                    next(rows, None)
                while part := self._part(rows, lines):
                    cells = np.array([row for _, row in part], dtype=object)
                    yield Block([where for where, _ in part], {name: cells[:, i] for i, name in enumerate(self.names)})
        except BROKEN as error:
            raise DataError(f"{self.path.name!r} cannot be unpacked: {error}.", "Download or pack it again.") from error

    def count_rows(self) -> int:
        """The lines below the header."""
        packing, most = self.preamble.packing, COUNTED // (4 if self.preamble.packing else 1)
        lines, last, seen, size = 0, b"\n", 0, self.path.stat().st_size
        try:
            with self.path.open("rb") as raw, unpacked(raw, packing) as file:
                while seen < most and (part := file.read(1 << 20)):
                    lines, last, seen = lines + part.count(b"\n"), part[-1:], seen + len(part)
                read = raw.tell() if packing else seen
                ended = seen < most or not file.read(1)
        except BROKEN as error:
            raise DataError(f"{self.path.name!r} cannot be unpacked: {error}.", "Download or pack it again.") from error
        rows = lines + (last not in b"\n\0") - self.preamble.skip - self.preamble.has_names
        return max(0, rows if ended else rows * size // max(1, read))

    def _part(self, rows: Iterator[tuple[str, list[str]]], lines: _Lines) -> list[tuple[str, list[str]]]:
        """As many rows as are held at once: of CELLS values, and of BLOCK_BYTES characters."""
        part: list[tuple[str, list[str]]] = []
        end = lines.read + limits.BLOCK_BYTES
        for row in rows:
            part.append(row)
            if len(part) == self.rows_at_once or lines.read > end:
                break
        return part

    def _rows(self, reader: Any, lines: _Lines, findings: Findings) -> Iterator[tuple[str, list[str]]]:
        """(where, fields) of the header and of every row that has as many."""
        named = self.preamble.has_names
        skip = self.preamble.skip
        try:
            for row in reader:
                lines.row_begins = lines.read
                if named or len(row) == len(self.names):
                    yield f"line {skip + reader.line_num}", row
                elif row:
                    findings.skip(
                        f"line {skip + reader.line_num}",
                        f"It has {len(row)} fields, the header has {len(self.names)}."
                        if self.preamble.has_names
                        else f"It has {len(row)} fields, most rows have {len(self.names)}.",
                        "Quote values that contain the delimiter, or complete the line.",
                    )
                named = False
        except csv.Error as error:
            raise DataError(
                f"Line {skip + reader.line_num} of {self.path.name!r} cannot be read: {error}.",
                "Close every quoted value, and save the table as UTF-8 text.",
            ) from error


class _Lines:
    """The lines of a text, none longer than MAX_LINE and no more than MAX_ROW for one row."""

    def __init__(self, file: TextIO, name: str, skip: int, *, strip: bool) -> None:
        self._file = file
        self._name = name
        self._strip = strip  # blanks at both ends, where blanks part fields
        for _ in range(skip):
            file.readline(MAX_LINE)
        self.read = 0  # characters
        self.row_begins = 0

    def __iter__(self) -> Iterator[str]:
        number = 0
        while line := self._file.readline(MAX_LINE):
            number += 1
            self.read += len(line)
            if len(line) == MAX_LINE or self.read - self.row_begins > MAX_ROW:
                raise DataError(
                    f"Line {number:,} of {self._name!r} belongs to a row of more than {MAX_LINE:,} characters.",
                    "Save a table with one line per row, and close every quoted value.",
                )
            yield line.strip() + "\n" if self._strip else line


def open_table(path: Path, kind: str, header: Header = "auto") -> Table:
    """The table in `path`, which is of the kind "csv", "json" or "parquet".

    Raises:
        DataError: it cannot be read.
    """
    if kind == "parquet":
        from surgery.data.parquetfile import ParquetTable  # late: a CSV does not need pyarrow

        return ParquetTable(path)
    if kind == "json":
        from surgery.data.jsonfile import JsonTable

        return JsonTable(path)
    return CsvTable(path, header)


def column_names(header: Sequence[str], path: Path) -> tuple[str, ...]:
    """Column names; one without a name is called by its place.

    Raises:
        DataError: too many columns, one only, or two of the same name.
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
    for place, name in enumerate(header, 1):
        if len(name) > limits.NAME:
            raise DataError(
                f"The name of column {place} of {path.name!r} has {len(name):,} characters; "
                f"a name may have {limits.NAME:,}.",
                "Add a first line with short names of the columns.",
            )
    names = tuple(visible(name.strip()) or f"column {place}" for place, name in enumerate(header, 1))
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(
            f"{path.name!r} has two columns named {twice!r}.", f"Give every column its own name. {SENTENCE}"
        )
    return names
