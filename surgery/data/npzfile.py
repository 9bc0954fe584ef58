"""An .npz file (`x`, `y`, perhaps `x_test`, `y_test`, `x_val`, `y_val`, `classes`, `features`), read block by block.

The members are streamed out of the zip: only targets are held in memory. Arrays of Python objects are refused, because
reading them can run code.
"""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgery.data import limits
from surgery.data.files import BROKEN, open_zip, report_twice
from surgery.data.findings import Findings
from surgery.data.names import visible
from surgery.data.rows import read_header
from surgery.errors import DataError
from surgery.sandbox import described, reading

SPELLINGS = {
    "x": ("x", "X", "x_train", "X_train", "images", "data"),
    "y": ("y", "Y", "y_train", "Y_train", "labels", "targets", "target"),
    "x_val": ("x_val", "X_val"),
    "y_val": ("y_val", "Y_val"),
    "x_test": ("x_test", "X_test"),
    "y_test": ("y_test", "Y_test"),
    "classes": ("classes", "class_names"),
    "features": ("features", "feature_names"),
}
BLOCK_BYTES = 4_000_000
MOST_NAMES = 10_000  # of classes or features
SAVE = "Save plain number arrays: np.savez(path, x=np.asarray(x), y=np.asarray(y))."


@dataclass(frozen=True)
class Member:
    """One array of the file."""

    name: str  # as it is spelled in the file
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def width(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def rows_at_once(self) -> int:
        """As many as fit into BLOCK_BYTES."""
        return max(1, BLOCK_BYTES // max(1, self.width))


class Rows:
    """The rows of one array, in order."""

    def __init__(self, archive: zipfile.ZipFile, member: Member, file: str) -> None:
        self.member = member
        self._where = f"The array {member.name!r} of {file!r} is damaged"
        self._stream = archive.open(f"{member.name}.npy")
        read_header(self._stream)

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stream.close()

    def take(self, count: int) -> NDArray[Any]:
        """The next rows: [count, *row shape].

        Raises:
            DataError: the array ends early or is damaged.
        """
        size = count * self.member.width
        try:
            data = self._stream.read(size)
            if len(data) < size:
                raise ValueError("it ends too early")
        except BROKEN as error:
            raise DataError(f"{self._where}: {described(error)}.", "Save the file again.") from error
        return np.frombuffer(data, self.member.dtype).reshape(count, *self.member.shape[1:])


class Npz:
    """The arrays of an .npz, by their usual names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Findings()  # what is doubtful
        self._zip = open_zip(path)
        report_twice(self._zip, self.found)
        self.members: dict[str, Member] = {}
        try:
            present = {name.removesuffix(".npy") for name in self._zip.namelist()}
            for role, spellings in SPELLINGS.items():
                for spelling in spellings:
                    if spelling in present and role not in self.members:
                        self.members[role] = self._member(spelling, role)
            self._check(present)
        except DataError:
            self._zip.close()
            raise

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._zip.close()

    def blocks(self, role: str) -> Iterator[NDArray[Any]]:
        """The rows of one array, a few megabytes at a time.

        Raises:
            DataError: the member ends early or is damaged.
        """
        member = self.members[role]
        with self.rows(role) as rows:
            for start in range(0, member.shape[0], member.rows_at_once):
                yield rows.take(min(member.rows_at_once, member.shape[0] - start))

    def rows(self, role: str) -> Rows:
        """One array, to be read from its first row to its last."""
        return Rows(self._zip, self.members[role], self.path.name)

    def count_blocks(self, role: str) -> int:
        """How many there are."""
        member = self.members[role]
        return -(-member.shape[0] // member.rows_at_once)

    def words(self, role: str) -> tuple[str, ...]:
        """A list of names: `classes` or `features`; () when there is none."""
        if role not in self.members:
            return ()
        with self.rows(role) as rows:
            return tuple(visible(str(value)) for value in texts(rows.take(rows.member.shape[0]), self.found))

    def _member(self, name: str, role: str) -> Member:
        where = f"The array {name!r} of {self.path.name!r}"
        with reading(where, DataError, SAVE), self._zip.open(f"{name}.npy") as stream:
            shape, dtype = read_header(stream)
            member = Member(name, shape, dtype)
            _check_member(member, role)
            if member.width * shape[0] > self._zip.getinfo(f"{name}.npy").file_size:
                raise ValueError("it ends too early")
        return member

    def _check(self, present: set[str]) -> None:
        """Every x has its y of the same length and the shape of the others."""
        if "x" not in self.members:
            raise DataError(
                f"{self.path.name!r} holds the arrays {_listed(present)}, but no samples 'x'.",
                "Save it with np.savez(path, x=samples, y=labels).",
            )
        main = self.members["x"]
        for part in ("x", "x_val", "x_test"):
            if part not in self.members:
                continue
            samples, labels = self.members[part], self.members.get(part.replace("x", "y"))
            if samples.shape[1:] != main.shape[1:]:
                raise DataError(
                    f"{samples.name!r} holds samples of shape {list(samples.shape[1:])}, "
                    f"{main.name!r} of {list(main.shape[1:])}.",
                    "Save both with the same shape.",
                )
            if (labels is None) != ("y" not in self.members):
                raise DataError(f"{samples.name!r} has no labels beside it, others have.", "Save labels for all parts.")
            if labels is not None and labels.shape not in ((samples.shape[0],), (samples.shape[0], 1)):
                raise DataError(
                    f"{labels.name!r} has the shape {list(labels.shape)} beside {samples.shape[0]:,} samples.",
                    "Save one class number or target per sample; for one-hot rows use y.argmax(1).",
                )


def texts(values: NDArray[Any], findings: Findings) -> list[Any]:
    """Labels or names as Python values, flat: bytes as UTF-8, else as Latin-1, which a note says."""
    values = values.reshape(-1)
    if values.dtype.kind == "U":
        codes = np.ascontiguousarray(values).view(values.dtype.byteorder.replace("|", "=") + "u4")
        if len(codes) and codes.max() > sys.maxunicode:
            raise DataError("A label holds what is no character.", SAVE)
    found = values.tolist()
    return [_decoded(value, findings) if isinstance(value, bytes) else value for value in found]


def _decoded(value: bytes, findings: Findings) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        note = "Labels that are not UTF-8 were read as Latin-1; save texts as np.str_ to be sure."
        if note not in findings.notes:
            findings.notes.append(note)
        return value.decode("latin-1")


def _check_member(member: Member, role: str) -> None:
    """Refuse what is no array of numbers, or too large in one row, by what its header declares.

    Raises:
        ValueError: saying what it is.
    """
    kinds, size = ("biuf" if role.startswith("x") else "biufUS"), member.dtype.itemsize
    shape, count = list(member.shape), member.shape[0] if member.shape else 0
    if member.dtype.kind not in kinds or not shape:
        holds = "it holds texts" if member.dtype.kind in "US" else f"it is {str(member.dtype)[:80]}{shape}"
        raise ValueError(f"{holds}, not an array of numbers")
    characters = size // (4 if member.dtype.kind == "U" else 1)
    if member.dtype.kind in "US" and characters > limits.NAME:
        total = limits.figure(member.width * count)
        raise ValueError(f"its texts have {characters:,} characters, {total} in all; a label may have {limits.NAME:,}")
    if member.width > limits.ROW_BYTES:
        raise ValueError(
            f"one row needs {limits.figure(member.width)}; a row may have {limits.figure(limits.ROW_BYTES)}"
        )
    if role in ("classes", "features") and math.prod(shape) > MOST_NAMES:
        raise ValueError(f"it holds {math.prod(shape):,} names; at most {MOST_NAMES:,} are read")
    if not role.startswith("x") and count and not member.width:
        raise ValueError(f"it is {str(member.dtype)[:80]}{shape}, which is empty")


def _listed(present: Iterable[str]) -> str:
    return ", ".join(visible(name)[:60] for name in sorted(present)[:8]) or "none"
