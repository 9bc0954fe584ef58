"""Sets of critical neurons side by side, in numpy alone, so that pages can ask without torch.

How much two classes share, which classes form one semantic slice, and in which order neurons may go when all layers
are ranked together. P points (one per group of coupled neurons), C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Members = NDArray[np.bool_]


def jaccard(members: Members) -> NDArray[np.float64]:
    """float64[C, C]: shared ÷ united neurons of every two classes; members: bool[P, C]. Two empty sets share all."""
    own = members.astype(np.float64)
    shared = own.T @ own
    sizes = own.sum(0)
    united = sizes[:, None] + sizes[None] - shared
    found: NDArray[np.float64] = np.divide(shared, united, out=np.ones_like(shared), where=united > 0)
    return found


def alike(members: Members, tau: float = 0.5) -> tuple[int, ...]:
    """C group numbers, from 0 in order of class: classes whose critical sets overlap by at least `tau` on average.

    "Merged by semantic similarity" of NeuSemSlice (arXiv 2407.20281); average linkage on Jaccard and τ are ours.
    """
    classes = int(members.shape[1])
    if classes < 2:
        return (0,) * classes
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(1 - jaccard(members), checks=False), "average")
    found = fcluster(tree, 1 - tau + 1e-9, "distance")
    names: dict[int, int] = {}
    return tuple(names.setdefault(int(number), len(names)) for number in found)


def shared_by(members: Members, classes: Sequence[int]) -> float:
    """0–1: the mean overlap of every two of these classes; 1 for a single one."""
    pairs = jaccard(members[:, list(classes)])[np.triu_indices(len(classes), 1)]
    return float(pairs.mean()) if len(pairs) else 1.0


def leaving(importance: NDArray[np.floating], layers: Sequence[object], fixed: Members) -> NDArray[np.int64]:
    """int64[k]: positions of points in the order in which they may go, the least important first.

    importance: float[P]; layers: the layer of each; fixed: bool[P], what cannot go. The best of each layer stays, so
    that no layer becomes empty.
    """
    free = ~fixed
    best = pd.Series(importance).groupby(np.asarray(layers)).idxmax()
    free[best.to_numpy()] = False
    order = np.argsort(np.where(free, importance, np.inf), kind="stable")
    return order[: int(free.sum())].astype(np.int64)
