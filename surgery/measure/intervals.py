"""How sure the changes of a before/after table are: both sides answered the same samples, so each row can say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from surgery.measure.interval import Answers, mean_difference, paired, resampled
from surgery.measure.quality import mse, r2

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.measure.measurement import Measurement

Row = dict[str, Any]
ALL = "overall"


def measured_intervals(
    rows: Sequence[Row], measurement: Measurement, data: Dataset, before: str = "before", after: str = "after"
) -> list[Row]:
    """Do as `with_intervals` with the predictions of two models of a measurement on `data`."""
    answers, truth, losses = measurement.predictions, measurement.truth, measurement.losses
    if before in losses and after in losses:
        rows = [_with_loss(row, losses[before], losses[after]) for row in rows]
    if truth is None or before not in answers or after not in answers:
        return list(rows)
    return with_intervals(
        rows, answers[before], answers[after], truth, scopes_of(data, truth, measurement.classes), measurement.split
    )


def scopes_of(data: Dataset, truth: Answers, classes: Sequence[str]) -> NDArray[Any] | None:
    """str[n]: the scope of each sample, as `quality_rows` names it; None of a regression.

    truth: int64[n], places in `classes`.
    """
    if data.task != "classification":
        return None
    names = data.groups if data.kind == "text" else classes
    scopes = np.array([name if name != ALL else f"class {name}" for name in names], dtype=object)
    found: NDArray[Any] = scopes[data.group_of(truth)]
    return found


def with_intervals(
    rows: Sequence[Row], old: Answers, new: Answers, truth: Answers, scopes: NDArray[Any] | None, split: str
) -> list[Row]:
    """Add to the rows of accuracy, R² and mean squared error low and high, the 95% interval of the change; to those of
    accuracy and agreement lost and won, how many samples became wrong, or right. Other rows stay as they are.

    old, new, truth: int64[n] classes, or float32[n] of a regression. scopes: of each sample. split: the samples' role.
    """
    if scopes is None:
        found = {name: resampled(metric, old, new, truth) for name, metric in (("r2", r2), ("mse", mse))}
        return [row | dict(zip(("low", "high"), found.get(row["metric"], ()), strict=False)) for row in rows]
    lost, won = (old == truth) & (new != truth), (old != truth) & (new == truth)

    def flipped(row: Row) -> Row:
        if row["metric"] not in ("accuracy", "agreement") or row["split"] != split:
            return row
        asked = np.ones(len(truth), dtype=bool) if row["scope"] == ALL else scopes == row["scope"]
        if not asked.any():
            return row
        flips = {"lost": int((lost & asked).sum()), "won": int((won & asked).sum())}
        if row["metric"] == "agreement":
            return row | flips
        low, high = paired(flips["lost"], flips["won"], int(asked.sum()))
        return row | flips | {"low": low, "high": high}

    return [flipped(row) for row in rows]


def _with_loss(row: Row, old: Answers, new: Answers) -> Row:
    """A row of loss or perplexity with the interval of the mean difference, pair by pair."""
    if row["metric"] not in ("loss", "perplexity") or row["scope"] != ALL or len(old) < 2:
        return row
    low, high = mean_difference(old, new)
    if row["metric"] == "loss":
        return row | {"low": low, "high": high}
    before = float(np.exp(old.mean()))
    return row | {"low": before * float(np.expm1(low)), "high": before * float(np.expm1(high))}
