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
from surgery.data.recognise import TABULAR, sniff
from surgery.data.tablefile import open_table

SHOWN = 200  # characters of a cell
Items = Iterator[tuple[Any, list[Any]]]


def portions(argument: Mapping[str, Any]) -> Items:
    """Give what a file holds, see `source.read`."""
    options, place = Options.of(argument["options"]), Place(**argument["place"])
    for given in source.read(Path(argument["path"]), options, place):
        yield packed(given)


def part_at(argument: Mapping[str, Any]) -> Items:
    """Name a part of a file, see `source.part_at`."""
    yield source.part_at(Path(argument["path"]), Options.of(argument["options"]), argument["start"]), []


def look(argument: Mapping[str, Any]) -> Items:
    """Say what a file is, then its splits and what the columns of a table hold, then show a few samples."""
    path, header = Path(argument["path"]), argument["header"]
    found = sniff(path, header)
    yield {"found": asdict(found)}, []
    columns = []
    if found.kind in TABULAR:
        table = open_table(path, found.kind, header)
        columns = inspect(table, argument["numbers"])
        facts = [_readable(asdict(column)) for column in columns]
        yield {"columns": facts, "notes": list(table.notes), "classes": list(table.classes)}, []
    target = columns[-1].name if columns and argument["last"] else argument["target"]
    yield {"target": target}, []
    for splits in source.splits(path, argument["split"], header):
        yield {"splits": [asdict(one) for one in splits]}, []
    for sample, label in source.peek(path, argument["limit"], target=target, header=header):
        shown = base64.b64encode(enlarged(sample)).decode() if isinstance(sample, bytes) else _readable(sample)
        yield {"sample": shown, "label": visible(label)[:SHOWN]}, []


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: visible(value[:SHOWN]) if isinstance(value, str) else _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:SHOWN]
