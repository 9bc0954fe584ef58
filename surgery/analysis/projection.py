"""Neurons as points on a plane, near means alike: PCA at once, UMAP when it is ready.

A neuron is described by its mean and spread on each class, relative to its own strength, and by how often it is
active. So neurons of quiet and loud layers are comparable, and two classes are enough to tell neurons apart.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from surgery.analysis.kept import offsets, reduced
from surgery.analysis.scan import Scan

SMALLEST = 100  # points; below it UMAP finds structure in noise, and PCA alone is shown
NEIGHBOURS = 15
TABLE = "neurons.parquet"

Rows = NDArray[np.float64]
Plane = NDArray[np.float32]


def features(found: Scan) -> Rows:
    """float64[N, 3C]: mean ÷ strength, standard deviation ÷ strength and fraction active on each class.

    A neuron's strength is the root of its mean squared activation; that of a silent one counts as 1. Where a scan kept
    the strongest classes only: float64[N, ≤ 65], those classes' offsets ÷ strength, reduced, and fraction active.
    """
    overall = found.overall
    strength = np.sqrt((overall.var + overall.mean.square()).numpy())[:, None]
    strength[strength == 0] = 1.0
    if found.kept is not None:
        return np.concatenate([reduced(offsets(found).multiply(1 / strength).tocsr()), overall.active[:, None]], axis=1)
    mean, var, active = (table.double().numpy() for table in (found.mean, found.var, found.active))
    return np.concatenate([mean / strength, np.sqrt(var) / strength, active], axis=1)


def pca(profiles: ArrayLike) -> Plane:
    """float32[N, 2]: the two directions of largest variance; each points to where its largest weight is positive."""
    from sklearn.decomposition import PCA

    rows = np.asarray(profiles, dtype=np.float64)
    places = np.zeros((len(rows), 2), dtype=np.float32)
    size = min(2, *rows.shape)
    if size and np.ptp(rows, axis=0).any():
        fitted = PCA(size, random_state=0).fit(rows)
        largest = np.abs(fitted.components_).argmax(1)
        sign = np.sign(fitted.components_[np.arange(size), largest])
        places[:, :size] = fitted.transform(rows) * sign
    return places


def umap(profiles: ArrayLike, seed: int = 0) -> Plane:
    """float32[N, 2]: UMAP from PCA, the same for the same seed; PCA alone below `SMALLEST` rows.

    Takes seconds, most of them compiling; for workers only.
    """
    from sklearn.neighbors import NearestNeighbors

    rows = np.asarray(profiles, dtype=np.float32)
    if len(rows) < SMALLEST:
        return pca(rows)
    distances, indices = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(rows).kneighbors(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it only remarks on what is asked for: a seed, neighbours found elsewhere
        from umap import UMAP

        mapper = UMAP(
            n_neighbors=NEIGHBOURS,
            init="pca",
            random_state=seed,
            precomputed_knn=(indices, distances.astype(np.float32), None),
        )
        return np.asarray(mapper.fit_transform(rows), dtype=np.float32)


def project(folder: Path, seed: int = 0) -> None:
    """Put UMAP coordinates (columns map_x, map_y) into the table of a saved scan; the file is replaced at once."""
    table = pd.read_parquet(folder / TABLE)
    points = np.flatnonzero(table["point"])
    placed = spread(umap(features(Scan.load(folder))[points], seed), points, table["group"].to_numpy())
    table["map_x"], table["map_y"] = placed[:, 0], placed[:, 1]
    staged = folder / f".{TABLE}.{os.getpid()}"
    table.to_parquet(staged, index=False)
    staged.replace(folder / TABLE)


def spread(places: Plane, points: NDArray[np.int64], group: NDArray[np.int64]) -> Plane:
    """float32[N, 2]: every member of a group lies where its point lies; NaN without a point (the logits).

    places: float32[P, 2] of the ids points: int64[P]; group: int64[N].
    """
    table = np.full((len(group), 2), np.nan, dtype=np.float32)
    of_group = {int(group[point]): place for point, place in zip(points, places, strict=True)}
    for neuron, number in enumerate(group.tolist()):
        if number in of_group:
            table[neuron] = of_group[number]
    return table
