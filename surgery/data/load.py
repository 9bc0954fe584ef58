"""Data in: recognise what a path holds, show a little of it, import it into a dataset folder, all in this process.

sniff(path)                      what it is, how many samples
peek(path), columns(path)        twelve previews with labels; for a table what can be its target
import_data(path, folder, ...)   the whole, once; afterwards only the folder is read

For files that somebody brought, `surgery.data.limited` does the same with limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.columns import ColumnInfo, inspect
from surgery.data.dataset import Dataset
from surgery.data.labels import SameNames
from surgery.data.portions import Choices, Options
from surgery.data.receive import Wishes, receive
from surgery.data.recognise import TABULAR, Recognised, sniff
from surgery.data.source import Preview, peek, read
from surgery.data.tablefile import open_table

__all__ = ["ColumnInfo", "Preview", "Recognised", "columns", "from_arrays", "import_data", "peek", "sniff"]

QUIET = Context()


def columns(path: Path) -> list[ColumnInfo]:
    """What each column of a CSV or Parquet file holds; [] for images and arrays, which need no target.

    Raises:
        DataError: the file cannot be read.
    """
    kind = sniff(path).kind
    return inspect(open_table(path, kind)) if kind in TABULAR else []


def import_data(
    path: Path,
    folder: Path,
    *,
    name: str,
    context: int | None = None,
    same_names: SameNames = "keep",
    classes: Mapping[str, str] | None = None,
    ctx: Context = QUIET,
    seed: int = 0,
    **choices: Unpack[Choices],
) -> Dataset:
    """Import `path` into `folder`, which the caller removes again if this raises.

    choices: see `portions.Options`. context: characters of a window of text. same_names: whether classes whose
    names are equal but for Unicode form, case or blanks are kept apart or merged. classes: other names of classes,
    old -> new. seed: of the split.

    Raises:
        DataError: nothing usable; `problems` names files and rows.
        DiskFullError: the disk is full.
        Cancelled: the user stopped it.
    """
    reader = read(path, Options(**choices))
    wishes = Wishes(
        name=name, task=choices.get("task"), same_names=same_names, classes=classes or {}, context=context, seed=seed
    )
    return receive(reader, path, folder, wishes, ctx)
