"""Reading rows of an .npy file by number, without ever mapping or loading the file.

A memory map would grow with every page that was touched; plain reads of the wanted row ranges keep resident memory
at one batch, however large the dataset is. The file is opened per read, so a reader can be shared and pickled.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from surgery.errors import DataError
from surgery.sandbox import described

MOST_AXES = 32
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class RowFile:
    """An array on disk, read by row. shape: (n, *row shape); offset: bytes before the first row."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @classmethod
    def open(cls, path: Path) -> RowFile:
        """Read the header of `path`.

        Raises:
            DataError: the file is missing or is not an array in row order.
        """
        try:
            with path.open("rb") as file:
                shape, dtype = read_header(file)
                return cls(path, shape, dtype, file.tell())
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path.name} of the dataset in {path.parent.name!r} cannot be read: {error}.",
                "Import the dataset again.",
            ) from error

    def read(self, ids: Ids) -> NDArray[Any]:
        """The rows `ids`, in that order: [len(ids), *row shape].

        Raises:
            DataError: the file ends before one of them.
        """
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        rows = np.empty((len(ids), *self.shape[1:]), self.dtype)
        self._fill(rows, sorted_ids)
        if np.array_equal(ids, sorted_ids):
            return rows
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return rows[back]

    def _fill(self, rows: NDArray[Any], ids: Ids) -> None:
        """Read each run of consecutive ids at once."""
        width = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        target = rows.reshape(-1).view(np.uint8).data
        cuts = [0, *(np.flatnonzero(np.diff(ids) != 1) + 1).tolist(), len(ids)]
        with self.path.open("rb", buffering=0) as file:
            for first, last in pairwise(cuts):
                if first < last:
                    file.seek(self.offset + int(ids[first]) * width)
                    self._read_exactly(file, target[first * width : last * width])

    def _read_exactly(self, file: io.FileIO, target: memoryview) -> None:
        done = 0
        while done < len(target):
            got = file.readinto(target[done:])
            if not got:
                raise DataError(
                    f"{self.path.name} of the dataset in {self.path.parent.name!r} ends too early.",
                    "Import the dataset again.",
                )
            done += got


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of the .npy stream `file`, which is left at the first row.

    Raises:
        ValueError: not an .npy stream, Python objects inside, an impossible shape, or stored column by column.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header of Python 2
            shape, fortran, dtype = read(file)
    except ValueError as error:
        raise ValueError(described(error)) from error
    except (Exception, MemoryError) as error:  # the parser raises what it likes, for instance of too deep a nesting
        raise ValueError(f"its header cannot be understood ({type(error).__name__})") from error
    if not all(type(side) is int and side >= 0 for side in shape) or len(shape) > MOST_AXES:
        raise ValueError(f"its shape {list(shape[:8])} is impossible")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read because they could run code")
    if fortran and len(shape) > 1:
        raise ValueError("it is stored column by column")
    return shape, dtype
