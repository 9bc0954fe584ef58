"""What silencing or removing does to a model's answers on the probe set: rows like a receipt's, and flipped samples.

Every metric is the measurement's own; only the samples are others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from surgery.data.dataset import Dataset
from surgery.data.rows import Ids
from surgery.data.splits import spread
from surgery.measure.intervals import scopes_of, with_intervals
from surgery.measure.measurement import ALL, quality_rows
from surgery.measure.quality import meaning_of, quality
from surgery.network.cost import bytes_of, macs, parameters
from surgery.network.model import Model

FLIPS = 48  # samples listed in each direction; the counts are complete

Row = dict[str, Any]
Answers = NDArray[Any]


@dataclass(frozen=True)
class Probes:
    """The probe set and how a model should answer it.

    ids: int64[n], samples of one role. split: that role. truth: int64[n] classes of the dataset, float32[n], or None.
    meaning: int64[outputs], the dataset's class that each output stands for.
    """

    data: Dataset
    ids: Ids
    split: str
    truth: Answers | None
    meaning: NDArray[np.int64]

    @classmethod
    def of(cls, model: Model, data: Dataset, ids: Ids) -> Probes:
        """The truth about at least one sample.

        Raises:
            MeasureError: model and dataset do not speak of the same classes or target.
        """
        meaning = meaning_of(model, data)
        split = next(role for role in data.counts() if ids[0] in data.ids(role))
        return cls(data, ids, split, None if data.task == "unlabelled" else data.labels(ids), meaning)

    def rows(self, task: str, before: Tensor, after: Tensor) -> list[Row]:
        """Receipt rows for outputs float[n, outputs] before and after; quality has the 95 % interval of its change."""
        old, new = self._answers(task, before), self._answers(task, after)
        unit = "fraction" if task == "classification" else ""
        agreement = row("agreement", ALL, 1.0, quality(task, new, old), unit, "higher")
        found = [agreement | {"split": self.split, "n": len(self.ids)}]
        if self.truth is None:
            return found
        pairs = zip(quality_rows(self.data, old, self.truth), quality_rows(self.data, new, self.truth), strict=True)
        measured = [
            row(metric, scope, value, other, unit, better) | {"split": self.split, "n": n}
            for (metric, scope, value, unit, better, n), (_, _, other, *_) in pairs
        ]
        scopes = scopes_of(self.data, self.truth, self.data.classes)
        return with_intervals([*measured, *found], old, new, self.truth, scopes, self.split)

    def flips(self, task: str, before: Tensor, after: Tensor) -> dict[str, Any]:
        """The samples whose answer becomes wrong ("lost") or right ("won"), with what was answered."""
        found: dict[str, Any] = {"lost": [], "won": [], "lost_count": 0, "won_count": 0}
        if self.truth is None or task != "classification":
            return found
        old, new, truth = self._answers(task, before), self._answers(task, after), self.truth
        for name, hit in (("lost", (old == truth) & (new != truth)), ("won", (old != truth) & (new == truth))):
            places = np.flatnonzero(hit)
            found[f"{name}_count"] = len(places)
            listed = places[np.sort(spread(truth[places], FLIPS, 0, even=True))]  # of every class some
            columns = {"sample": self.ids, "truth": truth, "before": old, "after": new}
            found[name] = [{key: int(column[i]) for key, column in columns.items()} for i in listed]
        return found

    def _answers(self, task: str, outputs: Tensor) -> Answers:
        """int64[n] classes of the dataset, −1 = another; float32[n] for a regression."""
        found: Answers = outputs[:, 0].numpy() if task == "regression" else self.meaning[outputs.argmax(1).numpy()]
        return found


def sizes(before: Model, after: Model) -> list[Row]:
    """Rows of parameters, bytes on disk and MACs of two models."""
    counted = (("parameters", "", parameters), ("bytes", "bytes", bytes_of), ("MACs", "", macs))
    return [row(name, ALL, count(before), count(after), unit, "lower") for name, unit, count in counted]


def row(metric: str, scope: str, before: float, after: float, unit: str, better: str) -> Row:
    """One row of a before/after table that was measured on no samples."""
    heading = {"metric": metric, "scope": scope, "before": before, "after": after, "change": after - before}
    return {**heading, "unit": unit, "better": better, "split": "", "n": None}
