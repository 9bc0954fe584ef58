"""Which input suits a model on a dataset: what pages and commands say of what `check_model` measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgery.network.facts import Takes

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

CLEARLY = 0.05  # by how much another input must be better before it is spoken of
Row = Mapping[str, Any]


def clearly_better(rows: Sequence[Row]) -> Row | None:
    """The input under which the model is clearly better than under its own, which comes first in `rows`."""
    known = [row for row in rows if row["quality"] is not None and not math.isnan(row["quality"])]
    best = max(known, key=lambda row: float(row["quality"]), default=None)
    return best if best is not None and best["quality"] - (rows[0]["quality"] or 0.0) >= CLEARLY else None


def smaller_images(takes: Takes, data: Dataset) -> tuple[int, int] | None:
    """(height, width) of the dataset's images where the model would get them enlarged."""
    if takes.kind != "image" or data.kind != "images":
        return None
    height, width = data.shape[1:]
    smaller = height <= takes.shape[1] and width <= takes.shape[2] and (height, width) != tuple(takes.shape[1:])
    return (height, width) if smaller else None
