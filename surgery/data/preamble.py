"""Where the rows of a text table begin, and what its columns are called: packing, encoding, delimiter, first line.

Understood before the rows: comments beginning with "#", a line of column names or none, the first line of
scikit-learn's own files (rows, columns, class names), names in a comment as NumPy writes them, row names as R writes
them, and the attributes of an ARFF. Whoever imports may say what the first line is.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from surgery.data.reading import Header
from surgery.errors import DataError

MAX_LINE = 4_000_000  # characters of a line
SURVEYED = 50  # lines that are looked at
SURVEY = 4_000_000  # characters of them, where more than one line is needed
DELIMITERS = "\t;|,"  # the comma last: it may stand in numbers
ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
PACKINGS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ": "xz"}
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
SENTENCE = "Say what the first line is: column names, data, or neither (--header names, data or ignore)."
_ATTRIBUTE = re.compile(r"@attribute\s+('(?:[^'\\]|\\.)*'|\"[^\"]*\"|\S+)\s+(.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Preamble:
    """What stands before the rows.

    skip: lines before the row of names, or before the rows where there is none. names: of the columns, as they stand
    in the file or (has_names False) made up. classes: what the numbers of the last column stand for. notes: what was
    taken for what.
    """

    packing: str
    encoding: str
    delimiter: str
    skip: int
    has_names: bool
    names: tuple[str, ...]
    quote: str = '"'
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def survey(path: Path, header: Header = "auto") -> Preamble:
    """Look at the first lines of a text table.

    Raises:
        DataError: they cannot be read, or hold no row.
    """
    packing, encoding = packing_of(path), _encoding(path)
    lines = _lines(path, packing, encoding)
    start = next((place for place, line in enumerate(lines) if line.strip()), 0)
    if lines[start : start + 1] and re.match(r"\s*[%@]", lines[start]):
        return _arff(path, packing, encoding)
    while start < len(lines) and (not lines[start].strip() or lines[start].lstrip().startswith("#")):
        start += 1
    if start == len(lines):
        start = max(0, len(lines) - 1)  # a table of comments only: its last line is taken for one of names
    shown = lines[start:]
    delimiter = _delimiter(shown, path)
    rows = [_fields(line, delimiter, path) for line in shown]
    comment = lines[start - 1].lstrip("# \t").rstrip() if start else ""
    return _judged(path, (packing, encoding, delimiter), start, rows, header, comment)


def packing_of(path: Path) -> str:
    """How a file is packed: "gz", "bz2", "xz" or "" where it is not."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((name for mark, name in PACKINGS.items() if head.startswith(mark)), "")


def unpacked(file: Path | IO[bytes], packing: str) -> IO[bytes]:
    """The bytes of a file, unpacked as they are read."""
    if packing == "gz":
        return cast("IO[bytes]", gzip.open(file, "rb"))
    if packing == "bz2":
        return cast("IO[bytes]", bz2.open(file, "rb"))
    if packing == "xz":
        return cast("IO[bytes]", lzma.open(file, "rb"))
    return file.open("rb") if isinstance(file, Path) else file


def text_of(path: Path, packing: str, encoding: str, *, newline: str | None = "") -> io.TextIOWrapper:
    """The text of a file; what is no text becomes a replacement character."""
    return io.TextIOWrapper(unpacked(path, packing), encoding=encoding, errors="replace", newline=newline)


def is_number(text: str) -> bool:
    """Whether a cell is a plain number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _encoding(path: Path) -> str:
    try:
        with unpacked(path, packing_of(path)) as file:
            head = file.read(4)
    except BROKEN as error:
        raise _damaged(path, error) from error
    return next((encoding for mark, encoding in ENCODINGS.items() if head.startswith(mark)), "utf-8")


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.name!r} cannot be unpacked: {error}.", "Download or pack it again.")


def _lines(path: Path, packing: str, encoding: str) -> list[str]:
    """The first lines, at least up to two rows behind all comments."""
    lines: list[str] = []
    size = rows = 0
    try:
        with text_of(path, packing, encoding, newline=None) as file:
            while line := file.readline(MAX_LINE):
                if len(line) == MAX_LINE:
                    raise DataError(
                        f"The first line of {path.name!r} has more than {MAX_LINE:,} characters.",
                        "Save a table with one line per row.",
                    )
                lines.append(line.rstrip("\r\n"))
                size += len(line)
                rows += bool(line.strip()) and not line.lstrip().startswith("#")
                if rows >= SURVEYED or size > SURVEY or len(lines) > 100 * SURVEYED:
                    break
    except BROKEN as error:
        raise _damaged(path, error) from error
    return lines


def _delimiter(lines: Sequence[str], path: Path) -> str:
    """The one that cuts all lines into equally many fields, else the most frequent one of the first line."""
    some = [line for line in lines if line.strip()][:SURVEYED]
    for mark in DELIMITERS:
        counts = {len(_fields(line, mark, path)) for line in some if mark in line}
        if len(some) > 1 and len(counts) == 1 and all(mark in line for line in some[1:]):
            return mark
    first = some[0] if some else ""
    best = max(DELIMITERS, key=first.count)
    if first.count(best) or any(mark in line for line in some[1:] for mark in DELIMITERS):
        body = max(DELIMITERS, key="\n".join(some[1:3]).count)
        return best if first.count(best) else body
    return " " if len(first.split()) > 1 or (len(some) > 1 and len(some[1].split()) > 1) else ","


def _fields(line: str, delimiter: str, path: Path, quote: str = '"') -> list[str]:
    if delimiter == " ":
        line = line.strip()
    try:
        return next(csv.reader([line], delimiter=delimiter, quotechar=quote, skipinitialspace=delimiter == " "), [])
    except csv.Error as error:
        raise DataError(
            f"The first line of {path.name!r} cannot be read: {error}.", "Give the columns shorter names."
        ) from error


def _judged(
    path: Path,
    form: tuple[str, str, str],
    start: int,
    rows: Sequence[Sequence[str]],
    header: Header,
    comment: str,
) -> Preamble:
    """What the first row is."""
    first, body = rows[0] if rows else [], [row for row in rows[1:] if row]
    width = Counter(len(row) for row in body).most_common(1)[0][0] if body else len(first)
    made_up = tuple(f"column {place + 1}" for place in range(width))
    comments = (f"Comment lines skipped before the table: {start:,}.",) if start else ()
    if header == "data":
        return Preamble(*form, start, False, made_up[: len(first)] or made_up, notes=comments)
    if header == "ignore":
        return Preamble(*form, start + 1, False, made_up, notes=comments)
    if header == "names":
        return Preamble(*form, start, True, tuple(first), notes=comments)
    if classes := _sklearn(first, body, width):
        note = "The first line holds counts and class names, as in the files of scikit-learn; it is no row."
        return Preamble(*form, start + 1, False, made_up, classes=classes, notes=(*comments, note))
    names = _fields(comment, form[2], path) if comment else []
    if names and len(names) == len(first) and any(map(is_number, first)) and not any(map(is_number, names)):
        note = "The names of the columns were taken from the comment above the rows."
        return Preamble(*form, start, False, tuple(names), notes=(note,))
    if _is_row(first, body):
        note = f"The first line ({', '.join(first[:3])} …) was read as data, not as column names. {SENTENCE}"
        return Preamble(*form, start, False, made_up, notes=(*comments, note))
    if len(first) + 1 == width and all(len(row) == width for row in body):
        note = "The first line has one name less than the rows have fields: the first field was taken for a row name."
        return Preamble(*form, start, True, ("", *first), notes=(*comments, note))
    return Preamble(*form, start, True, tuple(first), notes=comments)


def _sklearn(first: Sequence[str], body: Sequence[Sequence[str]], width: int) -> tuple[str, ...]:
    """The class names of a first line "150,4,setosa,versicolor,virginica"; () when it is none."""
    if len(first) < 4 or width < 2 or not body or first[1].strip() != str(width - 1) or not first[0].strip().isdigit():
        return ()
    classes = tuple(name.strip() for name in first[2:])
    numbers = all(is_number(cell) for row in body for cell in row)
    return classes if numbers and not any(map(is_number, classes)) and len(set(classes)) == len(classes) else ()


def _is_row(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether the first line looks like a row: numbers where rows have numbers, words that occur again below."""
    counted = [str(place) for place in range(len(first))]  # how pandas names columns that have no name
    numeric = [place for place, cell in enumerate(first) if is_number(cell)]
    below = [{row[place].strip() for row in body if len(row) > place} for place in range(len(first))]
    if not numeric:  # two columns cannot have one name
        words = [cell.strip() for cell in first if cell.strip()]
        return len(set(words)) < len(words) and any(cell.strip() in below[i] for i, cell in enumerate(first))
    if [cell.strip() for cell in first] == counted:
        return False
    if len(numeric) == len(first):
        return True
    if any(not first[place].strip().isdigit() for place in numeric):  # 5.1 or -3: no name looks so
        return True
    return any(first[place].strip() in below[place] for place in range(len(first)) if place not in numeric)


def _arff(path: Path, packing: str, encoding: str) -> Preamble:
    """The attributes of an ARFF, up to its line @data."""
    names: list[str] = []
    skip = 0
    with text_of(path, packing, encoding, newline=None) as file:
        while line := file.readline(MAX_LINE):
            skip += 1
            word = line.strip()
            if word.lower().startswith("@data"):
                break
            if found := _ATTRIBUTE.match(word):
                names.append(found[1].strip("'\"").replace("\\'", "'"))
            if len(line) == MAX_LINE or len(names) > 10_000:
                raise DataError(f"{path.name!r} has too long a list of attributes.", "Save it as CSV.")
        first = file.readline(MAX_LINE)
    if not names or not first:
        raise DataError(f"{path.name!r} looks like an ARFF, but has no @attribute or no rows.", "Save it as CSV.")
    if first.lstrip().startswith("{"):
        raise DataError(f"{path.name!r} is a sparse ARFF.", "Save it dense, or as CSV.")
    return Preamble(packing, encoding, ",", skip, False, tuple(names), quote="'")
