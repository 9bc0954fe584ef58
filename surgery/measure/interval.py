"""How sure a share or a change is: 95 % intervals of a count, and of a change measured on the same samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answers = NDArray[Any]
Z = 1.96  # two-sided 95 %
RESAMPLES = 400


def paired(lost: int, won: int, n: int) -> tuple[float, float]:
    """(low, high) of the change of a share (−1–1) when `lost` of n samples turn wrong and `won` turn right.

    Half a sample is added to each cell of the table, which keeps the interval honest where nothing or everything
    changes (Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", 2005).
    """
    size = n + 2
    change = (won - lost) / size
    error = np.sqrt(max(won + lost + 1 - (won - lost) ** 2 / size, 0.0)) / size
    return max(-1.0, float(change - Z * error)), min(1.0, float(change + Z * error))


def mean_difference(before: Answers, after: Answers) -> tuple[float, float]:
    """(low, high) of the mean of after − before, two values of each of at least 2 samples (normal)."""
    difference = after.astype(float) - before
    error = Z * difference.std(ddof=1) / np.sqrt(len(difference))
    return float(difference.mean() - error), float(difference.mean() + error)


def share(hits: int, n: int) -> tuple[float, float]:
    """(low, high) of a share (0–1) counted as `hits` of n samples (Wilson, "Probable inference", 1927)."""
    if not n:
        return 0.0, 1.0
    middle = (hits + Z**2 / 2) / (n + Z**2)
    error = Z / (n + Z**2) * float(np.sqrt(hits * (n - hits) / n + Z**2 / 4))
    return max(0.0, middle - error), min(1.0, middle + error)


def resampled(
    metric: Callable[[Answers, Answers], float], before: Answers, after: Answers, truth: Answers, seed: int = 0
) -> tuple[float, float]:
    """(low, high) of the change of any metric(answers, truth): percentiles over resampled samples."""
    generator = np.random.default_rng(seed)
    changes = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(len(truth), size=len(truth))
        changes.append(metric(after[chosen], truth[chosen]) - metric(before[chosen], truth[chosen]))
    low, high = np.percentile(changes, [2.5, 97.5])
    return float(low), float(high)
