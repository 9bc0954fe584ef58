"""An .npz file (`x`, `y`, perhaps `x_test`, `y_test`, `x_val`, `y_val`, `classes`, `features`), read block by block.

The members are streamed out of the zip: only targets are held in memory. Arrays of Python objects are refused, because
reading them can run code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgery.data.files import BROKEN, open_zip
from surgery.data.rows import read_header
from surgery.errors import DataError

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


@dataclass(frozen=True)
class Member:
    """One array of the file."""

    name: str  # as it is spelled in the file
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def width(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def rows_at_once(self) -> int:
        """As many as fit into BLOCK_BYTES."""
        return max(1, BLOCK_BYTES // max(1, self.width))


class Npz:
    """The arrays of an .npz, by their usual names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = open_zip(path)
        self.members: dict[str, Member] = {}
        try:
            present = {name.removesuffix(".npy") for name in self._zip.namelist()}
            for role, spellings in SPELLINGS.items():
                for spelling in spellings:
                    if spelling in present and role not in self.members:
                        self.members[role] = self._member(spelling)
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
        rows = member.rows_at_once
        try:
            with self._zip.open(f"{member.name}.npy") as stream:
                read_header(stream)
                for start in range(0, member.shape[0], rows):
                    count = min(rows, member.shape[0] - start)
                    data = stream.read(count * member.width)
                    if len(data) < count * member.width:
                        raise ValueError("it ends too early")
                    yield np.frombuffer(data, member.dtype).reshape(count, *member.shape[1:])
        except BROKEN as error:
            raise DataError(
                f"The array {member.name!r} of {self.path.name!r} is damaged: {error}.", "Save the file again."
            ) from error

    def count_blocks(self, role: str) -> int:
        """How many there are."""
        member = self.members[role]
        return -(-member.shape[0] // member.rows_at_once)

    def whole(self, role: str) -> NDArray[Any]:
        """One array in memory: targets and names only."""
        member = self.members[role]
        return np.concatenate([np.empty((0, *member.shape[1:]), member.dtype), *self.blocks(role)])

    def _member(self, name: str) -> Member:
        try:
            with self._zip.open(f"{name}.npy") as stream:
                shape, dtype = read_header(stream)
                size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if dtype.kind not in "biufUS" or not shape:
                    raise ValueError(f"it is {dtype}{list(shape)}, not an array of numbers")
                if size > self._zip.getinfo(f"{name}.npy").file_size:
                    raise ValueError("it ends too early")
        except BROKEN as error:
            raise DataError(
                f"The array {name!r} of {self.path.name!r} cannot be read: {error}.",
                "Save plain number arrays: np.savez(path, x=np.asarray(x), y=np.asarray(y)).",
            ) from error
        return Member(name, shape, dtype)

    def _check(self, present: set[str]) -> None:
        """Every x has its y of the same length and the shape of the others."""
        if "x" not in self.members:
            raise DataError(
                f"{self.path.name!r} holds the arrays {', '.join(sorted(present)[:8]) or 'none'}, but no samples 'x'.",
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
