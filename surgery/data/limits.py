"""What reading data may hold in memory. What a file will need is estimated from its headers, and refused with figures.

Samples themselves are read in blocks: what grows with a file is the bookkeeping, a few hundred bytes per sample.
"""

from __future__ import annotations

import os

from surgery import machine
from surgery.errors import DataError

VARIABLE = "SURGERY_DATA_MEMORY"  # what one import may hold ("8GB"), instead of a share of the machine's
SHARE = 4  # an import may hold one part in so many of the machine's memory
LEAST = 512 * 10**6
PER_SAMPLE = 300  # bytes: hash, target, role and source of a sample, and what dealing roles needs
BLOCK_BYTES = 32 * 10**6  # values that are held at once, where one row alone is not larger
ROW_BYTES = 128 * 10**6  # one row or sample
CELL = 131_072  # characters of one value of a table
NAME = 1_000  # characters of a column's or class's name


def memory() -> int:
    """Bytes that one import may hold at once.

    Raises:
        DataError: SURGERY_DATA_MEMORY is no size.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        return machine.size(given, VARIABLE, DataError)
    return max(LEAST, machine.memory() // SHARE)


def check(name: str, samples: int) -> None:
    """Refuse a file of `samples` samples that needs more memory than an import may hold.

    Raises:
        DataError: with both figures.
    """
    need = samples * PER_SAMPLE
    if need > memory():
        raise DataError(
            f"{name!r} declares {samples:,} samples; importing them needs {figure(need)} of memory, "
            f"the limit is {figure(memory())}.",
            f"Import a part of it, or raise the limit: set {VARIABLE}, for instance to 16GB.",
        )


def figure(size: float) -> str:
    """A size in words: "13.2 GB"."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"
