"""The work of `Forget`: whom each neuron serves most, how many the other classes can do without, the cut."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from surgery.analysis.criticality import taylor
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.edit.compensate import compensate
from surgery.edit.evaluate import predict, quality
from surgery.edit.extract import extract
from surgery.edit.finetune import fine_tune
from surgery.edit.fit import Budget, in_order
from surgery.edit.inputs import Inputs, inputs_of
from surgery.edit.size import Sizes
from surgery.network.model import Model
from surgery.network.part import Part
from surgery.operations.base import Outcome

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.operations.forget import Forget

SCANNED = 2_000  # training samples for the scores
SETTLED = 4_000  # training samples for what readers receive
TRIALS = 5  # halvings of how many go


class Oblivion:
    """One run of the operation. data: with all classes; rest: the same without samples of the forgotten ones."""

    def __init__(self, plan: Forget, model: Model, data: Dataset, rest: Dataset, ctx: Context) -> None:
        self.plan, self.model, self.data, self.rest, self.ctx = plan, model, data, rest, ctx
        assert model.index is not None
        self.index = model.index
        self.classes = tuple(name for name in model.classes if name not in plan.classes)
        self.scanned, self.settled = SCANNED, SETTLED

    def run(self) -> Outcome:
        """Find, cut, tune, tell."""
        keep = self.keep()
        small, kept = self.without(keep)
        gone = int((~keep & self.index.point).sum())
        self.ctx.log(f"{gone} neurons served the forgotten classes most and can be done without")
        if self.plan.epochs:
            plan = self.plan
            small = fine_tune(small, self.rest, self.ctx, epochs=plan.epochs, rate=plan.rate, teacher=self.model)
        before, after = self.per_class(self.without(torch.ones_like(keep))[0]), self.per_class(small)
        table = pd.DataFrame({"class": list(self.classes), "before": before, "after": after})
        return Outcome((small,), kept, {"others": table})

    def keep(self) -> Tensor:
        """bool[N]: what stays when as many of the forgotten classes' own neurons go as the others can do without."""
        best = torch.ones(self.index.n, dtype=torch.bool)
        order = self.needed[self.own].unique()
        if self.plan.neurons == "none" or not len(order):
            return best
        least = self.quality(best) - self.plan.tolerance / 100
        low, high = 0, len(order)
        for _ in range(TRIALS):
            middle = (low + high + 1) // 2
            keep = self.going(float(order[middle - 1]))
            if self.quality(keep) >= least - 1e-9:
                best, low = keep, middle
            else:
                high = middle - 1
            if low >= high:
                break
        return best

    def going(self, limit: float) -> Tensor:
        """bool[N]: without the forgotten classes' own neurons that the others need at most so much."""
        worth = torch.where(self.own & (self.needed <= limit), self.needed, torch.inf)
        return in_order(self.sizes, worth, Budget(0.0), at_least=False)

    def without(self, keep: Tensor) -> tuple[Model, Tensor]:
        """The network with only keep: bool[N] and the outputs of the other classes, and int64[n], the old ids."""
        changed, means = compensate(self.model, keep, self.seen)
        return extract(changed, Part("others", keep, self.classes), means)

    def quality(self, keep: Tensor) -> float:
        """On validation samples of the other classes."""
        return quality(self.without(keep)[0], self.rest, self.rest.ids("val"), self.ctx, "validating")

    def per_class(self, model: Model) -> list[float]:
        """Accuracy of each class that stays, on validation samples."""
        ids = self.rest.ids("val")
        truth = model.outputs_of(self.rest.classes)[torch.as_tensor(self.rest.labels(ids))]
        right = predict(model, self.rest, ids, self.ctx, "validating").argmax(1) == truth
        return [float(right[truth == c].double().mean()) for c in range(len(model.classes))]

    @cached_property
    def scores(self) -> Tensor:
        """float[N, classes of the data]: Taylor scores with means."""
        seen = scan(self.model, self.data, self.ctx, limit=self.scanned)
        return taylor(self.model, self.data, seen, self.ctx, limit=self.scanned)

    @cached_property
    def needed(self) -> Tensor:
        """float64[N]: how much the class that needs it most, of those that stay, needs each neuron."""
        return self.scores[:, [name in self.classes for name in self.data.classes]].amax(1).double()

    @cached_property
    def own(self) -> Tensor:
        """bool[N]: the neurons that a forgotten class needs more than any that stays."""
        forgotten = self.scores[:, [name in self.plan.classes for name in self.data.classes]].amax(1).double()
        return (forgotten > self.needed) & ~self.index.fixed

    @cached_property
    def seen(self) -> Inputs:
        """What readers receive on training samples of the other classes."""
        return inputs_of(self.model, self.rest, self.ctx, limit=self.settled)

    @cached_property
    def sizes(self) -> Sizes:
        """To count with."""
        return Sizes.of(self.model, self.seen.positions)
