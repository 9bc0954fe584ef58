"""Groups of neurons that answer to the same classes, each with a plain label.

What counts is the shape of a neuron's profile over classes, not its strength: every row is standardised. Neurons that
never answer, or answer to all classes alike, have no shape and are two groups of their own; the others, of all layers
together, are joined by Ward's method into half as many groups as classes, as many, or half as many again: whichever has
the best silhouette. Above `JOINED` neurons a sample is joined, and each other one goes to the nearest centre. Groups
with the same label are one. Of a scan that kept the strongest classes only, a profile is those classes' offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surgery.analysis.kept import reduced

FEWEST, MOST = 2, 24  # groups
FLAT = 0.1  # a profile is flat when its range is below this share of its largest mean
JUDGED = 2_000  # rows on which a silhouette is taken
JOINED = 3_000  # rows that are joined pair by pair, which takes their square in memory
SILENT, EVERYTHING, MIXED, ACTIVE = "Silent", "Responds to everything", "Mixed", "Active"

Rows = NDArray[np.float64]
Ints = NDArray[np.int64]


def clusters(
    profiles: Any, point: ArrayLike, seed: int = 0, *, classes: Sequence[str], balanced: ArrayLike | None = None
) -> tuple[Ints, list[str]]:
    """int64[N], the group of every neuron (−1 where `point` is false), and the label of each group.

    profiles: float[N, C], mean activation on each of `classes`; or, with `balanced`: float[N], the mean over classes,
    a sparse matrix of how far some classes lie from it (`kept.offsets`). point: bool[N], the neurons to group.
    """
    chosen = np.flatnonzero(np.asarray(point))
    if balanced is None:
        rows = np.asarray(profiles, dtype=np.float64)[chosen]
        largest, shaped = np.abs(rows).max(1, initial=0), np.zeros(0, dtype=np.int64)
        if rows.size:
            shaped = np.flatnonzero(np.ptp(rows, axis=1) > FLAT * largest)
            rows = rows[shaped]
            rows = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
    else:
        rows, usual = profiles[chosen], np.asarray(balanced, dtype=np.float64)[chosen]
        above = rows.max(1).toarray()[:, 0] if rows.size else np.zeros(len(chosen))
        largest = np.maximum(np.abs(usual), np.abs(usual + above))
        shaped = np.flatnonzero(above > FLAT * largest)
        rows = _unit(rows[shaped])
    labels = np.full(len(chosen), ACTIVE if len(classes) < 2 else EVERYTHING, dtype=object)
    labels[largest == 0] = SILENT
    if len(shaped):
        group = _grouped(rows if balanced is None else reduced(rows), len(classes), seed)
        for number in np.unique(group):
            centre = np.asarray(rows[group == number].mean(0)).reshape(-1)
            labels[shaped[group == number]] = label(centre, classes)
    names = np.full(np.shape(profiles)[0], "", dtype=object)
    names[chosen] = labels
    order = _reading_order(classes, labels.tolist())
    number = {name: place for place, name in enumerate(order)} | {"": -1}
    return np.array([number[name] for name in names], dtype=np.int64), order


def _unit(rows: Any) -> Any:
    """Sparse rows, each of length 1."""
    from sklearn.preprocessing import normalize

    return normalize(rows)


def label(centre: Rows, classes: Sequence[str]) -> str:
    """Name a group by the classes that stand out in its standardised centre: float[C]."""
    strong = np.flatnonzero(centre >= centre.max() / 2).tolist()
    weak = np.flatnonzero(centre <= centre.min() / 2).tolist()
    if len(strong) <= 3:
        return f"Answers to {_listed([classes[i] for i in strong])}"
    return f"Answers to all but {_listed([classes[i] for i in weak])}" if len(weak) <= 2 else MIXED


def _grouped(rows: Rows, classes: int, seed: int) -> Ints:
    """Ward's groups with the size of best silhouette; the smaller one among equals. One tree serves all sizes."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from sklearn.metrics import silhouette_score

    chosen = np.arange(len(rows))
    if len(rows) > JOINED:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:JOINED])
    sample = rows[chosen]
    distinct = len(np.unique(sample.round(6), axis=0))
    tree = linkage(sample, "ward") if len(sample) > 1 else None
    best, found = -np.inf, np.zeros(len(sample), dtype=np.int64)
    for size in _sizes(classes):
        if tree is None or size > distinct or size >= len(sample):
            break
        group = fcluster(tree, size, "maxclust").astype(np.int64) - 1
        if len(np.unique(group)) < FEWEST:
            continue
        score = silhouette_score(sample, group, sample_size=min(JUDGED, len(sample)), random_state=seed)
        if score > best + 1e-9:
            best, found = score, group
    return found if len(chosen) == len(rows) else _nearest(rows, sample, found)


def _nearest(rows: Rows, sample: Rows, group: Ints) -> Ints:
    """The group whose centre, taken over a grouped sample, lies nearest to each row."""
    centres = np.stack([sample[group == number].mean(0) for number in range(int(group.max()) + 1)])
    distance = (centres**2).sum(1) - 2 * rows @ centres.T  # but for a constant of each row
    nearest: Ints = distance.argmin(1)
    return nearest


def _sizes(classes: int) -> list[int]:
    """Numbers of groups to try, rising."""
    return sorted({min(max(size, FEWEST), MOST) for size in (classes // 2, classes, 3 * classes // 2)})


def _reading_order(classes: Sequence[str], names: Sequence[str]) -> list[str]:
    """Distinct labels: those of one class in the order of classes, of several after them, the shapeless last."""
    last = [MIXED, ACTIVE, EVERYTHING, SILENT]
    single = [f"Answers to {name}" for name in classes]
    distinct = set(names)
    several = sorted(distinct - set(single) - set(last))
    return [name for name in [*single, *several, *last] if name in distinct]


def _listed(names: Sequence[str]) -> str:
    """a · a and b · a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
