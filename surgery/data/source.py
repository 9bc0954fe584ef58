"""A path -> what is in it, portion by portion: every reader behind one function. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from surgery.data import layout
from surgery.data.files import open_files
from surgery.data.images import name_of, peek_images, read_images
from surgery.data.npz import peek_npz, read_npz, splits_of
from surgery.data.npzfile import Npz
from surgery.data.portions import Opening, Options, Place, Reader
from surgery.data.reading import Header, SplitUse
from surgery.data.recognise import TABULAR, sniff
from surgery.data.splits import IN_ORDER, NAMES, SplitFound, uses
from surgery.data.tablefile import open_table
from surgery.data.tables import peek_table, read_table, split_values
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


def peek(path: Path, limit: int = 12, *, target: str | None = None, header: Header = "auto") -> list[Preview]:
    """(PNG or row, label) of a few samples, in turn from every class; the label is "" where there is none yet.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(f"{path.name!r}", DataError):
        kind = sniff(path).kind
        if kind == "npz":
            with Npz(path) as npz:
                return peek_npz(npz, limit)
        if kind in TABULAR:
            return [*peek_table(open_table(path, kind, header), limit, target)]
        if kind == "text":
            from surgery.data.texts import peek_text  # late: nothing else needs what texts import

            return peek_text(path, limit)
        with open_files(path) as files:
            return [*peek_images(files, limit)]


def splits(path: Path, split: str | None = None, header: Header = "auto") -> Iterator[list[SplitFound]]:
    """The splits of a file with their counts, then again with how much they share, where that can be told soon.

    split: the column of a table that names them.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(f"{path.name!r}", DataError):
        kind = sniff(path, header).kind
        if kind in TABULAR:
            if split:
                yield _found(split_values(open_table(path, kind, header), split))
        elif kind == "npz":
            with Npz(path) as npz:
                yield _found(splits_of(npz))
        elif kind != "text":
            with open_files(path) as files:
                names = layout.splits_of(files.names)
                found = _found({split: len(own) for split, own in names.items()})
                yield found
                if shared := files.shared([names[one.name] for one in _by_use(found)]):
                    by_name = dict(zip([one.name for one in _by_use(found)], shared, strict=True))
                    yield [replace(one, shared=by_name[one.name]) for one in found]


def _found(counts: Mapping[str, int]) -> list[SplitFound]:
    """Splits with what their names say; "drop" where a name says nothing: somebody has to choose."""
    said: dict[str, SplitUse] = {name: "drop" for name in counts if name not in NAMES}
    found = uses(counts, said)
    shown = sorted(counts, key=lambda name: ("deal", "train", "val", "test", "drop").index(found[name]))
    return [SplitFound(name, counts[name], found[name], known=name in NAMES) for name in shown]


def _by_use(found: Sequence[SplitFound]) -> list[SplitFound]:
    return sorted(found, key=lambda one: [*IN_ORDER, "drop"].index(one.use))


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
        return open_table(path, kind).part_at(start)
    raise DataError(f"{path.name!r} is read as a whole.")


def _read(path: Path, options: Options, place: Place) -> Reader:
    kind = sniff(path, options.header).kind
    if kind in TABULAR:
        table = open_table(path, kind, options.header)
        yield from read_table(table, options, place)
        return
    if options.target or options.drop or options.columns or options.split:
        raise DataError(
            f"{path.name!r} is no table: it has no columns to choose.", "Leave target, columns and drop empty."
        )
    if kind == "text" and options.splits:
        raise DataError(f"{path.name!r} is a text: it has no splits.", "Leave the splits out.")
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
