"""A path -> what is in it, portion by portion: every reader behind one function. Nothing is written here."""

from __future__ import annotations

from pathlib import Path

from surgery.data.files import open_files
from surgery.data.images import name_of, peek_images, read_images
from surgery.data.npz import peek_npz, read_npz
from surgery.data.npzfile import Npz
from surgery.data.portions import Opening, Options, Place, Reader
from surgery.data.recognise import sniff
from surgery.data.tablefile import open_table
from surgery.data.tables import peek_table, read_table
from surgery.errors import DataError
from surgery.sandbox import reading

Preview = tuple[bytes | dict[str, object], str]


def read(path: Path, options: Options, place: Place | None = None) -> Reader:
    """Give what `path` holds; of a text only that it is one.

    Raises:
        DataError: it cannot be read, whatever its reader raises, or it changes meanwhile.
    """
    with reading(f"{path.name!r}", DataError, "Save the file again, or convert it."):
        before = _state(path)
        for given in _read(path, options, place or Place()):
            yield given
            if _state(path) != before:
                raise DataError(f"{path.name!r} changed while it was read.", "Import it again when it is complete.")


def peek(path: Path, limit: int = 12, *, target: str | None = None) -> list[Preview]:
    """(PNG or row, label) of a few samples, in turn from every class; the label is "" where there is none yet.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(f"{path.name!r}", DataError):
        kind = sniff(path).kind
        if kind == "npz":
            with Npz(path) as npz:
                return peek_npz(npz, limit)
        if kind in ("csv", "parquet"):
            return [*peek_table(open_table(path, parquet=kind == "parquet"), limit, target)]
        if kind == "text":
            from surgery.data.texts import peek_text  # late: nothing else needs what texts import

            return peek_text(path, limit)
        with open_files(path) as files:
            return [*peek_images(files, limit)]


def part_at(path: Path, options: Options, start: int) -> str:
    """Name the image or the rows at `start`.

    Raises:
        DataError: the file is of a kind that is read as a whole.
    """
    kind = sniff(path).kind
    if kind in ("image zip", "image folder"):
        with open_files(path) as files:
            return name_of(files, options, start)
    if kind == "parquet":
        return open_table(path, parquet=True).part_at(start)
    raise DataError(f"{path.name!r} is read as a whole.")


def _read(path: Path, options: Options, place: Place) -> Reader:
    kind = sniff(path).kind
    if kind in ("csv", "parquet"):
        yield from read_table(open_table(path, parquet=kind == "parquet"), options, place)
        return
    if options.target or options.drop:
        raise DataError(f"{path.name!r} is no table: it has no columns to choose.", "Leave target and drop empty.")
    if kind == "text":
        yield Opening(kind="text")
    elif kind == "npz":
        with Npz(path) as npz:
            yield from read_npz(npz, options)
    else:
        with open_files(path) as files:
            yield from read_images(files, options, place)


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; of a folder nothing, whose files are read one by one."""
    facts = path.stat() if path.exists() and not path.is_dir() else None
    return None if facts is None else (facts.st_size, facts.st_mtime_ns)
