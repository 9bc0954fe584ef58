"""Arrays in memory into a dataset: how samples and tests make theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surgery.data.dataset import Dataset, Heading, Task
from surgery.data.findings import Findings
from surgery.data.writer import Writer
from surgery.errors import DataError


def from_arrays(
    folder: Path,
    x: ArrayLike,
    y: ArrayLike | None,
    *,
    classes: Sequence[str],
    name: str,
    task: Task,
    features: Sequence[str] = (),
    roles: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    seed: int = 0,
) -> Dataset:
    """Write a dataset from arrays in memory, through the same writer as every import.

    x: uint8[n, h, w] or [n, h, w, c] images, or [n, f] numbers. y: int[n] in 0 … len(classes) − 1, float[n] targets,
    or None. classes: labels, or the name of the one target. roles: one per sample; dealt 70/15/15 when left out.

    Raises:
        DataError: shapes, labels or roles are not as above.
    """
    samples = _samples(np.asarray(x))
    targets = None if y is None else _targets(np.asarray(y), len(samples), task, len(classes))
    where = [f"row {number + 1}" for number in range(len(samples))] if sources is None else list(sources)
    if len(where) != len(samples) or (roles and len(roles) != len(samples)):
        raise DataError(f"There are {len(samples)} samples but not as many sources or roles.", "Give one per sample.")
    heading = Heading(
        name=name,
        kind="images" if samples.ndim == 4 else "table",
        task=task,
        classes=tuple(classes),
        features=_features(features, samples),
    )
    findings = Findings()
    with Writer(folder, samples.shape[1:]) as writer:
        writer.add(samples, targets, where, role=roles or "")
        return writer.finish(heading, findings, seed=seed)


def _samples(x: NDArray[Any]) -> NDArray[Any]:
    """uint8[n, h, w, c] or float32[n, f]."""
    if x.ndim == 3 and x.dtype == np.uint8:
        return x[..., None]
    if x.ndim == 4 and x.dtype == np.uint8 and x.shape[-1] in (1, 3):
        return x
    if x.ndim == 2 and x.dtype.kind in "fiub":
        return x.astype(np.float32)
    raise DataError(
        f"The samples are {x.dtype}{list(x.shape)}.",
        "Give images as uint8 [n, height, width] or [n, height, width, 1 or 3], tables as numbers [n, features].",
    )


def _targets(y: NDArray[Any], count: int, task: Task, classes: int) -> NDArray[Any]:
    if y.shape != (count,):
        raise DataError(f"There are {count} samples but the targets have the shape {list(y.shape)}.", "Give one each.")
    if task == "classification" and count and not (y.dtype.kind in "iu" and y.min() >= 0 and y.max() < classes):
        raise DataError(f"A label is not a class number from 0 to {classes - 1}.", "Give the position in `classes`.")
    return y


def _features(features: Sequence[str], samples: NDArray[Any]) -> tuple[str, ...]:
    if samples.ndim == 4:
        return ()
    names = tuple(features) or tuple(f"feature {number + 1}" for number in range(samples.shape[1]))
    if len(names) != samples.shape[1]:
        raise DataError(f"There are {samples.shape[1]} features but {len(names)} names.", "Give one name each.")
    return names
