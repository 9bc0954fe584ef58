"""What a path holds, by content; only of a .txt that is no table its name says that it is a text."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surgery.data.files import Files, ZipFiles
from surgery.data.npzfile import Npz
from surgery.data.preamble import BROKEN, packing_of, unpacked
from surgery.data.reading import Header
from surgery.data.tablefile import open_table
from surgery.errors import DataError
from surgery.sandbox import described

Source = Literal["image zip", "image folder", "npz", "csv", "json", "parquet", "text"]
TABULAR = ("csv", "json", "parquet")
WORDS = {
    "image zip": "Zipped folder of images",
    "image folder": "Folder of images",
    "npz": "NumPy arrays (.npz)",
    "csv": "Table of text (CSV)",
    "json": "Table of JSON records",
    "parquet": "Parquet table",
    "text": "Text for a model of characters (.txt)",
}
JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*(?:"|\})')
SPARSE = re.compile(rb"\s*[-+.\deE]+(?:[ \t]+\d+:[-+.\deE]+)+\s")
HEAD = 65_536  # bytes that are looked at
NUMBERS = 0.25  # share of the cells of a table, at least, that are numbers
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
TABLES = (".csv", ".parquet", ".npz", ".txt", ".tsv", ".json", ".jsonl", ".gz", ".bz2", ".xz")
ACCEPTED = "Give a zipped folder of images, an .npz with x and y, a CSV, JSON records, a Parquet or a .txt file."
ARCHIVE = "Unpack it, and zip the folder instead."
OTHERS = {
    b"7z\xbc\xaf": ("a 7-Zip archive", ARCHIVE),
    b"Rar!": ("a RAR archive", ARCHIVE),
    b"MATLAB 5.0": (
        "a MATLAB file (.mat)",
        "Save its arrays with SciPy: m = scipy.io.loadmat(path); np.savez('data.npz', x=m['X'], y=m['y'].ravel()).",
    ),
    b"SQLite format 3": ("an SQLite database", "Save the table as CSV: sqlite3 -header -csv FILE 'select * from T'."),
    b"ARROW1": ("an Arrow file", "Save it as Parquet: pandas.read_feather(path).to_parquet('data.parquet')."),
    b"FEA1": ("a Feather file", "Save it as Parquet: pandas.read_feather(path).to_parquet('data.parquet')."),
    **{
        bytes([0, 0, 8, axes]): (
            f"one array in the IDX format of MNIST ({'labels' if axes == 1 else 'images'} alone)",
            "Save samples and labels together: np.savez('data.npz', x=images, y=labels, x_test=…, y_test=…); an array "
            f"is np.frombuffer(data, np.uint8, offset={4 + 4 * axes}).reshape({'-1' if axes == 1 else '-1, 28, 28'}).",
        )
        for axes in (1, 3)
    },
    b"\x93NUMPY": ("a single array (.npy)", "Save samples and labels together: np.savez(path, x=x, y=y)."),
    b"\x89HDF": ("an HDF5 file", "Save its arrays with np.savez(path, x=x, y=y)."),
    b"\x89PNG": ("a single image", "Put the images into class folders, and zip them."),
    b"\xff\xd8\xff": ("a single image", "Put the images into class folders, and zip them."),
    b"\x80": ("a Python pickle, which is never opened because it can run code", ACCEPTED),
    b"%PDF": ("a PDF", ACCEPTED),
    b"\xd0\xcf\x11\xe0": ("an old Office file", "Save the sheet as CSV."),
}


@dataclass(frozen=True)
class Recognised:
    """What was found: `label` in plain words, about `entries` samples, the size of the file or folder in bytes."""

    kind: Source
    label: str
    entries: int
    bytes: int


def sniff(path: Path, header: Header = "auto") -> Recognised:
    """What `path` holds. header: what the first line of a text table is.

    Raises:
        DataError: it does not exist, is empty, damaged or of no known kind.
    """
    if path.is_dir():
        return _folder(path)
    head = _head(path)
    size = path.stat().st_size
    if head.startswith(b"PK"):
        return _zip(path, size)
    if head.startswith(b"PAR1"):
        return _recognised("parquet", open_table(path, "parquet").count_rows(), size)
    packing = packing_of(path)
    if packing:
        head = _unpacked_head(path, packing)
    for magic, (words, fix) in OTHERS.items():
        if head.startswith(magic):
            raise DataError(f"{path.name!r} is {words}.", f"Unpack it first. {fix}" if packing else fix)
    if head[257:262] == b"ustar":
        raise DataError(f"{path.name!r} is a tar archive.", ARCHIVE)
    if packing and head.startswith((b"PK", b"PAR1")):
        raise DataError(f"{path.name!r} is packed twice.", "Unpack it once, and import what is inside.")
    if _is_wide(head):
        raise DataError(f"{path.name!r} looks like UTF-16 text without its mark.", "Save it as UTF-8.")
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path.name!r} is of no known kind.", ACCEPTED)
    if JSON.match(head):
        return _recognised("json", open_table(path, "json").count_rows(), size)
    if SPARSE.match(head):
        raise DataError(
            f"{path.name!r} is a sparse table (svmlight, libsvm).",
            "Save it dense: x, y = sklearn.datasets.load_svmlight_file(path); "
            "np.savez('data.npz', x=x.toarray(), y=y).",
        )
    endings = [ending.lower() for ending in path.suffixes]
    if (endings[-2:-1] if packing else endings[-1:]) == [".txt"] and not _in_columns(head):
        if packing:
            raise DataError(f"{path.name!r} is a packed text.", "Unpack it, and import the .txt file.")
        return _recognised("text", size, size)
    return _recognised("csv", open_table(path, "csv", header).count_rows(), size)


def _unpacked_head(path: Path, packing: str) -> bytes:
    try:
        with unpacked(path, packing) as file:
            head = file.read(HEAD)
    except BROKEN as error:
        raise DataError(f"{path.name!r} cannot be unpacked: {error}.", "Download or pack it again.") from error
    if not head:
        raise DataError(f"{path.name!r} holds nothing.", "Pack it again.")
    return head


def _folder(path: Path) -> Recognised:
    names = Files(path).names
    images = sum(name.lower().endswith(IMAGES) for name in names)
    if names and not images and path.suffix.lower() in TABLES:
        raise DataError(f"{path.name!r} is a folder, not a file.", "Give the file inside it.")
    return _recognised("image folder", len(names), sum((path / name).stat().st_size for name in names))


def _is_wide(head: bytes) -> bool:
    """Whether every second byte is 0, as in Western text of two bytes a letter."""
    if len(head) < 8 or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    even, odd = head[::2], head[1::2]
    few, many = sorted((even.count(0) / len(even), odd.count(0) / len(odd)))
    return many > 0.7 and few < 0.05


def _in_columns(head: bytes) -> bool:
    """Whether the first lines have the same number of columns, with numbers in them."""
    text = head.decode("utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    lines = lines[:-1] if len(lines) > 1 and len(head) == HEAD else lines  # the last one may be cut
    for mark in ",;\t|":
        rows = list(csv.reader(lines[:20], delimiter=mark))
        cells = [cell for row in rows[1:] for cell in row]
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1 and cells:
            return sum(map(_is_number, cells)) >= NUMBERS * len(cells)
    return False


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _zip(path: Path, size: int) -> Recognised:
    """An .npz is a zip of arrays; an Excel sheet and a PyTorch file are zips too."""
    with ZipFiles(path) as files:
        names = files.names
    if names and all(name.endswith(".npy") for name in names):
        with Npz(path) as npz:
            return _recognised("npz", sum(npz.members[part].shape[0] for part in npz.members if part[0] == "x"), size)
    if "[Content_Types].xml" in names:
        raise DataError(f"{path.name!r} is an Office file.", "Save the sheet as CSV (File, Save as, CSV UTF-8).")
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(f"{path.name!r} is a PyTorch file.", "A model is opened as a model, not as data.")
    images = sum(name.lower().endswith(IMAGES) for name in names)
    if not images:
        inside = f"{names[0]!r} and {len(names) - 1:,} more files" if names else "nothing"
        raise DataError(
            f"{path.name!r} holds no images, but {inside}.",
            "Put images into class folders, and zip them. A table or .npz is given without a zip around it.",
        )
    return _recognised("image zip", images, size)


def _recognised(kind: Source, entries: int, size: int) -> Recognised:
    return Recognised(kind, WORDS[kind], entries, size)


def _head(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe or device would block for ever
            raise DataError(f"{path.name!r} is no regular file.", ACCEPTED)
        with path.open("rb") as file:
            head = file.read(HEAD)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise DataError(
            f"{path.name!r} cannot be opened: {getattr(error, 'strerror', None) or described(error)}.",
            "Check the path.",
        ) from error
    if not head:
        raise DataError(f"{path.name!r} is empty.", "Upload it again.")
    return head
