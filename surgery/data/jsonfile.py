"""JSON records as a table: a list of objects, or one object a line (JSON Lines), read one object at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from surgery.data import limits
from surgery.data.findings import Findings
from surgery.data.portions import Place
from surgery.data.preamble import BROKEN, packing_of, text_of
from surgery.data.tablefile import CELLS, COUNTED, MAX_ROW, Block, Table, column_names
from surgery.errors import DataError

PART = 1 << 20  # characters that are read at once
SURVEYED = 1_000  # records whose keys are the columns
_GAP = re.compile(r"[^ \t\r\n,]")
SAVE = "Save it as records, for instance with pandas: table.to_json(path, orient='records')."


class JsonTable(Table):
    """A file of JSON records, perhaps packed.

    Raises:
        DataError: it is no list of objects, or they have too many keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packing = packing_of(path)
        keys: dict[str, None] = {}
        for number, (_, record) in enumerate(self._records()):
            keys |= dict.fromkeys(record)
            if number == SURVEYED:
                break
        self._keys = tuple(keys)
        self.names = column_names(self._keys, path)

    def blocks(
        self, findings: Findings, *, columns: Sequence[str] | None = None, place: Place | None = None
    ) -> Iterator[Block]:
        """The records; one with other keys is used without them, and named.

        Raises:
            DataError: it is no JSON from some place on.
        """
        part: list[tuple[str, list[Any]]] = []
        size, known = 0, set(self._keys)
        for where, record in self._records():
            if strange := [key for key in record if key not in known]:
                reason = f"It has the key {strange[0][:40]!r}, which the first {SURVEYED:,} records do not have."
                findings.warn(where, reason, "Its value is not used; give all records the same keys.")
            row = [_cell(record.get(key)) for key in self._keys]
            size += sum(len(value) for value in row if isinstance(value, str))
            part.append((where, row))
            if len(part) == self.rows_at_once or size > limits.BLOCK_BYTES:
                yield self._block(part)
                part, size = [], 0
        if part:
            yield self._block(part)

    def count_rows(self) -> int:
        """How many records there are, of a large file estimated."""
        count = 0
        with self.path.open("rb") as raw:
            size = max(1, raw.seek(0, 2))
        for count, (_, _record) in enumerate(self._records(), 1):
            if count == CELLS // len(self.names) and size > COUNTED // 100:
                return max(count, count * size // max(1, self._read))
        return count

    def _block(self, part: Sequence[tuple[str, list[Any]]]) -> Block:
        columns = {}
        for place, name in enumerate(self.names):
            column = np.empty(len(part), dtype=object)
            column[:] = [row[place] for _, row in part]
            columns[name] = column
        return Block([where for where, _ in part], columns)

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(where, object) one after the other."""
        self._read = 0  # characters
        number = 0
        try:
            with text_of(self.path, self.packing, "utf-8-sig") as file:
                for number, value in enumerate(self._values(file), 1):
                    if not isinstance(value, dict):
                        raise DataError(f"Record {number:,} of {self.path.name!r} is no JSON object.", SAVE)
                    yield f"record {number}", value
        except (*BROKEN, RecursionError) as error:
            raise DataError(f"{self.path.name!r} cannot be read behind record {number:,}: {error}.", SAVE) from error
        if not number:
            raise DataError(f"{self.path.name!r} holds no JSON records.", SAVE)

    def _values(self, file: TextIOWrapper) -> Iterator[Any]:
        decoder = json.JSONDecoder()
        text, at, opened = "", 0, False
        while True:
            more = file.read(PART)
            self._read += len(more)
            text, at = text[at:] + more, 0
            while (at := _behind_gap(text, at)) < len(text) and text[at] != "]":
                if text[at] == "[" and not opened:
                    at, opened = at + 1, True
                    continue
                try:
                    value, end = decoder.raw_decode(text, at)
                except ValueError as error:
                    if not more or len(text) - at > MAX_ROW:
                        raise DataError(
                            f"{self.path.name!r} is no JSON near {text[at : at + 40]!r}: {error}.", SAVE
                        ) from error
                    break  # the rest of this value comes with the next part
                if end == len(text) and more and not isinstance(value, dict):
                    break  # a number may go on
                if not opened and isinstance(value, dict):
                    self._refuse_columns(value)
                yield value
                at = end
            if not more:
                return

    def _refuse_columns(self, value: dict[str, Any]) -> None:
        """Refuse an object of columns, whose first key holds all of a column."""
        parts = [one for one in value.values() if isinstance(one, (dict, list))]
        if parts and len(parts) == len(value) and len(parts[0]) > 1 and len(set(map(len, parts))) == 1:
            raise DataError(f"{self.path.name!r} holds columns ({', '.join([*value][:4])} …), not records.", SAVE)


def _cell(value: Any) -> Any:
    """A value that a table can hold: number, text or None; what is nested only by the name of its kind."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (dict, list)):
        return f"[{'object' if isinstance(value, dict) else 'list'}]"
    if isinstance(value, int) and abs(value) > 10**300:
        return str(value)
    return value[: limits.CELL] if isinstance(value, str) else value


def _behind_gap(text: str, at: int) -> int:
    """The place of the first character from `at` on that is neither blank nor a comma; the end where there is none."""
    found = _GAP.search(text, at)
    return found.start() if found else len(text)
