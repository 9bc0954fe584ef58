"""What can be said of a sample besides its class, so that a neuron may be named by it: the features of a table, and
words for pictures where a text–image model is installed (`text_image`).

A feature is high on the fifth of the samples where it is largest, low on the fifth where it is smallest. A feature
that takes so few values that no fifth can be told apart has no concept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from surgery.analysis import text_image
from surgery.context import Context

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

Members = NDArray[np.bool_]
FIFTH = 0.2


def concepts(data: Dataset, samples: NDArray[np.int64], ctx: Context) -> tuple[tuple[str, ...], Members]:
    """(K names, bool[S, K]: which samples they are true of); none for images without a text–image model.

    Raises:
        DataError: a text–image model is named, but cannot be used. Cancelled.
    """
    if data.kind == "images" and len(samples) and (home := text_image.folder()) is not None:
        names, true = text_image.described(data, samples, ctx, home)
        return names, true.numpy()
    if data.kind != "table" or not len(samples):
        return (), np.zeros((len(samples), 0), dtype=bool)
    rows = data.raw(samples).astype(np.float64)
    low, high = np.quantile(rows, [FIFTH, 1 - FIFTH], axis=0)
    found = [("high", rows > high), ("low", rows < low)]
    called = [f"{word} {feature}" for word, _ in found for feature in data.features]
    member = np.concatenate([part for _, part in found], axis=1)
    told: NDArray[np.bool_] = np.any(member, axis=0)
    return tuple(name for name, there in zip(called, told.tolist(), strict=True) if there), member[:, told]
