"""Import and preview in a limited child: what jobs, pages and the command line use for a file that somebody brought.

The process that calls decodes nothing. A child that is stopped over one image or row group is started again behind it,
and that part is named among the problems.
"""

from __future__ import annotations

import base64
import os
import time
import zipfile
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from surgery import sandbox, streaming
from surgery.context import Context
from surgery.data import limits
from surgery.data.columns import ColumnInfo
from surgery.data.files import directory
from surgery.data.findings import Findings
from surgery.data.labels import SameNames
from surgery.data.portions import Choices, Opening, Options, Place, Portion, Reader, unpacked
from surgery.data.reading import Header, Numbers
from surgery.data.recognise import Recognised
from surgery.data.splits import SplitFound
from surgery.errors import DataError, SurgeryError
from surgery.sandbox import Limits

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

CHILD = "surgery.data.child"
IMPORT = Limits(seconds=15, memory=768 << 20)  # the seconds are those of one image, row group or block
LOOK = Limits(seconds=10, memory=512 << 20)
PATIENCE = 20.0  # seconds after which the samples that are ready are shown
DIRECTORY = 16  # bytes of memory for each byte of a zip's list of entries
FILE = 1_500  # bytes of memory for each file of a folder
MOST_STOPS = 10  # parts of a file over which a reader may be stopped
QUIET = Context()
Preview = tuple[bytes | dict[str, object], str]


@dataclass(frozen=True)
class Look:
    """What a file is, what its columns hold, a few samples with labels, and the target that the labels come from.

    splits: those that came with the file. notes: what was taken for what. classes: what the numbers of the last column
    stand for, where the file says so.
    """

    found: Recognised
    columns: list[ColumnInfo]
    samples: list[Preview]
    target: str | None
    splits: list[SplitFound]
    notes: list[str]
    classes: list[str]


def look(
    path: Path,
    limit: int = 12,
    *,
    target: str | None = None,
    last: bool = False,
    header: Header = "auto",
    numbers: Numbers = "",
    split: str | None = None,
) -> Look:
    """Look into a file, all at once; samples that are not ready in time are not shown.

    last: label the rows of a table by its last column, which is the one that is usually meant. header: what its first
    line is. numbers: how its numbers are written. split: the column that names each row's split.

    Raises:
        DataError: the file cannot be read, or an import of it needs more memory than there is.
    """
    argument = {"path": str(path.absolute()), "limit": limit, "target": target, "last": last}
    argument |= {"header": header, "numbers": numbers, "split": split}
    seen: dict[str, Any] = {"columns": [], "splits": [], "notes": [], "classes": []}
    samples: list[Preview] = []
    began = time.monotonic()
    with sandbox.reading(f"{path.name!r}", DataError):
        try:
            for facts, _ in _stream("look", path, argument, LOOK):
                if "sample" in facts:
                    samples.append((_opened(facts["sample"]), str(facts["label"])))
                else:
                    seen |= facts
                if "target" in seen and time.monotonic() - began > PATIENCE:
                    break
        except streaming.Stopped as stop:
            if "target" not in seen:  # it comes before the samples
                raise stop.error from None
    found = Recognised(**seen["found"])
    if found.kind != "text":
        limits.check(path.name, found.entries)
    return Look(
        found,
        [ColumnInfo(**column) for column in seen["columns"]],
        samples,
        seen["target"],
        [SplitFound(**one) for one in seen["splits"]],
        seen["notes"],
        seen["classes"],
    )


def _opened(sample: str | dict[str, object]) -> bytes | dict[str, object]:
    """A picture as bytes, or a row."""
    return base64.b64decode(sample) if isinstance(sample, str) else sample


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
    """Import as `load.import_data` does, with the reader in a limited child.

    Raises:
        DataError, DiskFullError, Cancelled: as there.
    """
    from surgery.data.receive import Wishes, receive

    options = Options(**choices)
    wishes = Wishes(
        name=name, task=choices.get("task"), same_names=same_names, classes=classes or {}, context=context, seed=seed
    )
    with sandbox.reading(f"{path.name!r}", DataError):
        return receive(portions(path, options), path, folder, wishes, ctx)


def portions(path: Path, options: Options) -> Reader:
    """Give what `path` holds; parts that a reader is stopped over are skipped and named.

    Raises:
        DataError: the file cannot be read, or too many of its parts cannot.
    """
    place, stops = Place(), 0
    opening: Opening | None = None
    while True:
        argument = {"path": str(path.absolute()), "options": asdict(options), "place": asdict(place)}
        try:
            for facts, buffers in _stream("portions", path, argument, IMPORT):
                given = unpacked(facts, buffers)
                if isinstance(given, Opening):
                    if opening is not None:
                        continue
                    opening = given
                elif isinstance(given, Portion):
                    place = replace(place, start=given.next, skip=given.done)
                yield given
            return
        except streaming.Stopped as stop:
            if opening is None or not opening.parts or stops == MOST_STOPS:
                raise stop.error from None
            place = replace(place, fixed=opening.fixed, alone=not place.alone)
            if not place.alone:  # it was already: the part at `start` is the one
                stops += 1
                yield _left_out(path, options, place, opening, stop.error)
                place = replace(place, start=place.start + 1, skip=0)


def _left_out(path: Path, options: Options, place: Place, opening: Opening, error: SurgeryError) -> Portion:
    """No samples, but a problem that names the part at `place`."""
    argument = {"path": str(path.absolute()), "options": asdict(options), "start": place.start}
    with closing(_stream("part_at", path, argument, IMPORT)) as items:
        part, _ = next(items)
    findings = Findings()
    findings.skip(str(part), error.what, "Save it again, or remove it.")
    kind = np.uint8 if opening.kind == "images" else np.float64
    return Portion(samples=np.empty((0, *opening.row), kind), where=[], findings=findings)


def _stream(
    function: str, path: Path, argument: dict[str, Any], allowed: Limits
) -> Generator[tuple[Any, list[bytes]], None, None]:
    readable, names = _readable(path)
    return streaming.stream(
        f"{CHILD}:{function}",
        argument,
        replace(allowed, memory=allowed.memory + min(limits.memory(), names)),
        name=f"{path.name!r}",
        error=DataError,
        imports=_imports(path),
        readable=readable,
    )


def _imports(path: Path) -> tuple[str, ...]:
    """What the reader of a file will need besides numpy and Pillow; both take long, and images need neither."""
    if not path.is_file():
        return ()
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return ()  # the reader says what is wrong
    return {b"PK\x03\x04": (), b"PAR1": ("pandas", "surgery.data.parquetfile")}.get(head, ("pandas",))


def _readable(path: Path) -> tuple[list[Path], int]:
    """What the child may open, and the bytes of memory that its list of files takes.

    Of a folder also the folders to which links in it lead: who owns the folder has put them there.
    """
    if not path.is_dir():
        is_zip = path.is_file() and zipfile.is_zipfile(path)
        return [path], DIRECTORY * directory(path)[1] if is_zip else 0
    linked, count = set(), 0
    for folder, _, files in os.walk(path):
        linked |= {one.resolve().parent for name in files if (one := Path(folder, name)).is_symlink()}
        count += len(files)
    return [path, *sorted(linked)], FILE * count
