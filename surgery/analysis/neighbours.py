"""Which neurons answer alike: correlation over the samples whose responses a scan kept. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


def standardised(values: Rows) -> Rows:
    """float32[P, S] of float32[P, S]: every row with mean 0 and length 1; a constant row is 0."""
    centred = values - values.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    told = length > 1e-6 * np.abs(values).max(1, initial=0, keepdims=True)
    rows: Rows = np.divide(centred, length, out=np.zeros_like(centred), where=told)
    return rows


def nearest(rows: Rows, place: int, count: int = 8) -> list[tuple[int, float]]:
    """(place, correlation) of the rows most alike to one of `standardised` rows, itself left out."""
    likeness = rows @ rows[place]
    likeness[place] = -np.inf
    best = np.argsort(-likeness, kind="stable")[: min(count, len(rows) - 1)]
    return [(int(other), float(likeness[other])) for other in best]


def correlations(features: NDArray[np.float32], row: Rows) -> NDArray[np.float64]:
    """float64[F], −1 to 1: how each column of features: float[S, F] goes with row: float[S]; 0 for a constant one."""
    columns = standardised(np.ascontiguousarray(features.T, dtype=np.float32))
    return np.asarray(columns @ standardised(row[None].astype(np.float32))[0], dtype=np.float64)
