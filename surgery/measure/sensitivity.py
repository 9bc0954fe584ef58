"""How much worse a model gets without each coupled group of neurons, by really silencing it: no score, a measurement.

Each group is gated as a removal would take it out, so what is said here is what shrinking then does. Passes start at
the first layer that feels the difference. Layers take turns, so that a budget of time leaves no layer out. What was
not tested says why; it is never called robust.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from surgery.analysis.replay import Recording, record, touched
from surgery.context import Context
from surgery.data.batches import Inputs
from surgery.data.splits import spread
from surgery.edit.gate import gate
from surgery.errors import DataError, ModelError
from surgery.measure.quality import meaning_of
from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.network.slicing import Means

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

TABLE, ABOUT = "sensitivity.parquet", "sensitivity.json"
SECONDS = 300.0  # that a job measures by default; another one goes on from there
LIMIT = 500  # samples of the probe set
COLUMNS = ("id", "tested", "reason", "loss_change", "accuracy_change", "worst_class", "worst_class_change")
TIME_UP = "not tested: the time was up"


class Judge:
    """The loss and accuracy of outputs on fixed samples, against those of the whole model.

    Loss: mean cross-entropy with the true class, or mean squared error; without labels the model's own answers count.
    Classes are the dataset's, of a text the kinds of characters; without labels the model's.
    """

    def __init__(self, model: Model, data: Dataset, ids: np.ndarray, whole: Tensor) -> None:
        self.regression = model.task == "regression"
        self.truth = _truth(model, data, ids, whole)
        labelled = data.task == "classification"
        self.names = data.groups if labelled else model.classes
        self.kinds = torch.as_tensor(data.strata(ids)) if labelled else self.truth
        self.loss = self._loss(whole)
        self.right = self._right(whole)

    def changes(self, outputs: Tensor) -> dict[str, Any]:
        """loss_change, accuracy_change (0–1), worst_class and its change; NaN and "" for a regression."""
        found: dict[str, Any] = {"loss_change": self._loss(outputs) - self.loss}
        if self.regression:
            return found | {"accuracy_change": math.nan, "worst_class": "", "worst_class_change": math.nan}
        change = self._right(outputs).double() - self.right.double()
        own = {int(c): float(change[self.kinds == c].mean()) for c in self.kinds.unique()}
        worst = min(own, key=lambda c: own[c])
        named = {"worst_class": self.names[worst], "worst_class_change": own[worst]}
        return found | {"accuracy_change": float(change.mean())} | named

    def _loss(self, outputs: Tensor) -> float:
        if self.regression:
            return float((outputs[:, 0].double() - self.truth).square().mean())
        return float(F.cross_entropy(outputs.double(), self.truth))

    def _right(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(1) == self.truth


class Sensitivity:
    """Measures group after group; `table` has what is known at any moment, also after a cancel.

    means: what a silenced neuron leaves behind in its readers' biases; None leaves zeros. limit: samples of the probe
    set. known: an earlier table of the same model, data and means, whose tested rows are kept.

    Raises:
        ModelError: the network has no index. DataError: there are no samples. MeasureError: model and data do not
            belong together.
    """

    def __init__(
        self,
        model: Model,
        data: Dataset,
        ctx: Context,
        *,
        means: Means | None = None,
        limit: int = LIMIT,
        known: pd.DataFrame | None = None,
    ) -> None:
        if model.index is None:
            raise ModelError(
                f"The neurons of this network are not numbered: {model.support.reason}.", "It can only be inspected."
            )
        self.ids = data.probe_ids(limit)
        if not len(self.ids):
            raise DataError(f"{data.name!r} has no samples to measure on.", "Import data that is not only test.")
        self.index, self.means, self.ctx = model.index, means, ctx
        self.recording = _recorded(model, data, self.ids, ctx)
        self.judge = Judge(model, data, self.ids, self.recording.outputs)
        self.split = next(role for role in data.counts() if self.ids[0] in data.ids(role))
        self._rows = {point: untested(self.index, point) for point in self.index.point.nonzero().flatten().tolist()}
        if known is not None:
            done = known[known["tested"]].to_dict("records")
            self._rows |= {int(row["id"]): {str(name): row[name] for name in COLUMNS} for row in done}

    @property
    def table(self) -> pd.DataFrame:
        """A row per point of the index, by id.

        Columns: id; tested; reason ("" or "not tested: …"); loss_change, accuracy_change (0–1), worst_class,
        worst_class_change: of the probe set without the group, minus those with it.
        """
        return pd.DataFrame(list(self._rows.values()), columns=list(COLUMNS))

    def save(self, folder: Path) -> None:
        """Put `sensitivity.parquet` and `sensitivity.json` (split, n, fill) into an existing folder, at once."""
        about = {"split": self.split, "n": len(self.ids), "fill": "zero" if self.means is None else "mean"}
        (folder / ABOUT).write_text(json.dumps(about), "utf-8")
        staged = folder / f".{TABLE}.{os.getpid()}"
        self.table.to_parquet(staged, index=False)
        staged.replace(folder / TABLE)

    def run(self, points: Tensor | None = None, *, seconds: float = math.inf) -> None:
        """Test `points` (ids; by default all) until the time is up; what is tested or cannot be tested is left out.

        Raises:
            Cancelled: between two groups.
        """
        wanted = list(self._rows) if points is None else points.tolist()
        order = torch.tensor([point for point in wanted if self._rows[point]["reason"] == TIME_UP], dtype=torch.long)
        if not len(order):
            return
        start = time.monotonic()
        turns = spread(self.index.layer_of[order].numpy(), len(order), self.ctx.seed, even=True)
        for point in self.ctx.track(order[turns].tolist(), "measuring neurons", total=len(order)):
            if time.monotonic() - start > seconds:
                return
            self._rows[point] = {"id": point, "tested": True, "reason": ""} | self.judge.changes(self._without(point))

    def _without(self, point: int) -> Tensor:
        """Outputs of all samples without one group."""
        gone = self.index.group == self.index.group[point]
        with gate(self.recording.model.module, self.index, (~gone).float(), self.means):
            return self.recording.rerun(touched(self.index, gone)).outputs


def untested(index: NeuronIndex, point: int) -> dict[str, Any]:
    """The row of a group that was not tested, with the reason; TIME_UP when it could be."""
    reason = TIME_UP
    if bool(index.fixed[point]):  # also where it is all that a layer has
        stays = index.stays(int(index.group[point])) or "it is fixed"
        reason = stays if stays.startswith("not measurable") else f"not tested: {stays}"
    nothing = {"loss_change": math.nan, "accuracy_change": math.nan, "worst_class": "", "worst_class_change": math.nan}
    return {"id": point, "tested": False, "reason": reason} | nothing


def _recorded(model: Model, data: Dataset, ids: np.ndarray, ctx: Context) -> Recording:
    warm = model if ctx.device == "cpu" else replace(model, module=copy.deepcopy(model.module).to(ctx.device))
    return record(warm, Inputs.of(data, ids, model.input, ctx.device), ctx)


def _truth(model: Model, data: Dataset, ids: np.ndarray, whole: Tensor) -> Tensor:
    if data.task == "unlabelled":
        return whole[:, 0].double() if model.task == "regression" else whole.argmax(1)
    meaning_of(model, data)  # raises when model and data do not belong together
    labels = torch.as_tensor(data.labels(ids))
    return labels.double() if model.task == "regression" else model.outputs_of(data.classes)[labels]
