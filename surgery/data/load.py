"""Data in: recognise what a path holds, show a little of it, import it into a dataset folder.

sniff(path)                      what it is, how many samples
peek(path), columns(path)        twelve previews with labels; for a table what can be its target
import_data(path, folder, ...)   the whole, once; afterwards only the folder is read
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.columns import ColumnInfo, inspect
from surgery.data.dataset import Dataset, Task
from surgery.data.files import open_files
from surgery.data.images import import_images, peek_images
from surgery.data.npz import import_npz, peek_npz
from surgery.data.npzfile import Npz
from surgery.data.recognise import Recognised, sniff
from surgery.data.tablefile import open_table
from surgery.data.tables import import_table, peek_table
from surgery.data.texts import import_text, peek_text
from surgery.errors import DataError

__all__ = ["ColumnInfo", "Recognised", "columns", "from_arrays", "import_data", "peek", "sniff"]

QUIET = Context()
Preview = tuple[bytes | dict[str, object], str]


def columns(path: Path) -> list[ColumnInfo]:
    """What each column of a CSV or Parquet file holds; [] for images and arrays, which need no target.

    Raises:
        DataError: the file cannot be read.
    """
    kind = sniff(path).kind
    return inspect(open_table(path, parquet=kind == "parquet")) if kind in ("csv", "parquet") else []


def peek(path: Path, limit: int = 12, *, target: str | None = None) -> list[Preview]:
    """(PNG or row, label) of a few samples, in turn from every class; the label is "" where there is none yet.

    Raises:
        DataError: the file cannot be read.
    """
    kind = sniff(path).kind
    if kind == "npz":
        with Npz(path) as npz:
            return peek_npz(npz, limit)
    if kind in ("csv", "parquet"):
        return [*peek_table(open_table(path, parquet=kind == "parquet"), limit, target)]
    if kind == "text":
        return peek_text(path, limit)
    with open_files(path) as files:
        return [*peek_images(files, limit)]


def import_data(
    path: Path,
    folder: Path,
    *,
    name: str,
    target: str | None = None,
    task: Task | None = None,
    size: tuple[int, int] | None = None,
    drop: Sequence[str] = (),
    context: int | None = None,
    ctx: Context = QUIET,
    seed: int = 0,
) -> Dataset:
    """Import `path` into `folder`, which the caller removes again if this raises.

    target, drop: columns of a table. task: overrides what the labels look like. size: (height, width) of the stored
    images, by default the most common one. context: characters of a window of text. seed: of the split.

    Raises:
        DataError: nothing usable; `problems` names files and rows.
        DiskFullError: the disk is full.
        Cancelled: the user stopped it.
    """
    kind = sniff(path).kind
    if kind in ("csv", "parquet"):
        table = open_table(path, parquet=kind == "parquet")
        return import_table(table, folder, name=name, target=target, task=task, drop=drop, ctx=ctx, seed=seed)
    if target or drop:
        raise DataError(f"{path.name!r} is no table: it has no columns to choose.", "Leave target and drop empty.")
    if kind == "text":
        return import_text(path, folder, name=name, context=context, ctx=ctx, seed=seed)
    if kind == "npz":
        with Npz(path) as npz:
            return import_npz(npz, folder, name=name, task=task, ctx=ctx, seed=seed)
    with open_files(path) as files:
        return import_images(files, folder, name=name, task=task, size=size, ctx=ctx, seed=seed)
