"""What the limited child does with a file of data: generator functions for `surgery.streaming`."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from surgery.data import source
from surgery.data.columns import inspect
from surgery.data.names import visible
from surgery.data.pixels import enlarged
from surgery.data.portions import Options, Place, packed
from surgery.data.recognise import sniff
from surgery.data.tablefile import open_table

SHOWN = 200  # characters of a cell
Items = Iterator[tuple[Any, list[Any]]]


def portions(argument: Mapping[str, Any]) -> Items:
    """Give what a file holds, see `source.read`."""
    options, place = dict(argument["options"]), argument["place"]
    if options["size"] is not None:
        options["size"] = tuple(options["size"])
    for given in source.read(Path(argument["path"]), Options(**options), Place(**place)):
        yield packed(given)


def part_at(argument: Mapping[str, Any]) -> Items:
    """Name a part of a file, see `source.part_at`."""
    yield source.part_at(Path(argument["path"]), Options(**argument["options"]), argument["start"]), []


def look(argument: Mapping[str, Any]) -> Items:
    """Say what a file is, then what the columns of a table hold, then show a few samples."""
    path = Path(argument["path"])
    found = sniff(path)
    yield {"found": asdict(found)}, []
    columns = []
    if found.kind in ("csv", "parquet"):
        columns = inspect(open_table(path, parquet=found.kind == "parquet"))
        yield {"columns": [_readable(asdict(column)) for column in columns]}, []
    target = columns[-1].name if columns and argument["last"] else argument["target"]
    yield {"target": target}, []
    for sample, label in source.peek(path, argument["limit"], target=target):
        shown = base64.b64encode(enlarged(sample)).decode() if isinstance(sample, bytes) else _readable(sample)
        yield {"sample": shown, "label": visible(label)[:SHOWN]}, []


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: visible(value[:SHOWN]) if isinstance(value, str) else _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:SHOWN]
