"""The must-keep cases one by one: which were right before and are wrong now.

A window of text is never simply right or wrong: it counts as broken when its loss has risen by more than RISE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.context import Context
from surgery.measure.quality import run

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.network.model import Model


# Nats per character, averaged over the positions at which it answers: each character less likely by a fifth.
RISE = 0.25


def cases(before: Model, after: Model, data: Dataset, ctx: Context) -> dict[str, Any]:
    """n, right: how many there are, and how many were right before. broken, mended: {sample, truth, before, after} of
    those that became wrong, or right; of texts with `losses` before and after. Only samples of classes that both models
    know; for a regression, where nothing is right or wrong, right is 0 and the lists are empty.

    Raises:
        MeasureError: a model does not fit the dataset.
    """
    from surgery.edit.evaluate import losses

    own = data.fitting(before.classes).fitting(after.classes)
    ids = own.ids("preserve")
    found: dict[str, Any] = {"n": len(ids), "right": 0, "broken": [], "mended": []}
    if own.task != "classification" or not len(ids):
        return found
    truth = own.labels(ids)
    old, new = (run(model, own, ids, ctx, "measuring must-keep cases") for model in (before, after))
    if own.kind == "text":
        was, now = (losses(model, own, ids, ctx, "measuring must-keep cases").tolist() for model in (before, after))
        found["right"] = len(ids)
        for i, sample in enumerate(ids):
            change = now[i] - was[i]
            row = {"sample": int(sample), "truth": int(truth[i]), "before": int(old[i]), "after": int(new[i])}
            if abs(change) > RISE:
                found["broken" if change > 0 else "mended"].append(row | {"losses": [was[i], now[i]]})
        return found
    found["right"] = int((old == truth).sum())
    for name, hit in (("broken", (old == truth) & (new != truth)), ("mended", (old != truth) & (new == truth))):
        found[name] = [
            {"sample": int(ids[i]), "truth": int(truth[i]), "before": int(old[i]), "after": int(new[i])}
            for i in np.flatnonzero(hit)
        ]
    return found
