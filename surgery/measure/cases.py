"""The must-keep cases one by one: which were right before and are wrong now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.context import Context
from surgery.measure.quality import run

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.network.model import Model


def cases(before: Model, after: Model, data: Dataset, ctx: Context) -> dict[str, Any]:
    """n, right: how many there are, and how many were right before. broken, mended: {sample, truth, before, after} of
    those that became wrong, or right. Only samples of classes that both models know; for a regression, where nothing is
    right or wrong, right is 0 and the lists are empty.

    Raises:
        MeasureError: a model does not fit the dataset.
    """
    own = data.fitting(before.classes).fitting(after.classes)
    ids = own.ids("preserve")
    found: dict[str, Any] = {"n": len(ids), "right": 0, "broken": [], "mended": []}
    if own.task != "classification" or not len(ids):
        return found
    truth = own.labels(ids)
    old, new = (run(model, own, ids, ctx, "measuring must-keep cases") for model in (before, after))
    found["right"] = int((old == truth).sum())
    for name, hit in (("broken", (old == truth) & (new != truth)), ("mended", (old != truth) & (new == truth))):
        found[name] = [
            {"sample": int(ids[i]), "truth": int(truth[i]), "before": int(old[i]), "after": int(new[i])}
            for i in np.flatnonzero(hit)
        ]
    return found
