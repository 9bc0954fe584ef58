"""The work of `Split`: what all its methods share, the choice among what they found, and the modules' figures.

Letters: K classes, modules and outputs; N neurons; n samples.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from surgery.analysis.overlap import jaccard
from surgery.context import Context
from surgery.data.splits import spread
from surgery.edit.compose import together
from surgery.edit.evaluate import means_of, predict
from surgery.edit.heads import scores
from surgery.edit.inputs import inputs_of
from surgery.edit.recognition import Recognition, recognition
from surgery.edit.size import Sizes
from surgery.network.composed import Head
from surgery.network.model import Model
from surgery.network.part import Part
from surgery.network.slicing import Means
from surgery.operations.base import Outcome
from surgery.operations.masked import Masked

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.operations.split import Split

JUDGED = 5_000  # validation samples, to choose on
BYTES = 4  # of a parameter
PROOF, PROOF_BYTES = 32, 2**20  # samples that a module keeps to be proven on, at most
COUNTED = 8  # samples, to see how often each weight is used


@dataclass(frozen=True)
class Step:
    """What a method came to: keep: bool[K, N] and a head for each module; accuracy (0–1) of all together on validation
    samples; share (0–1) of neurons in a module, on average over modules; error (0–1), the standard error of what is
    lost, counted on the same samples before and after.
    """

    name: str
    keep: Tensor
    heads: tuple[Head, ...]
    accuracy: float
    share: float
    seconds: float
    error: float = 0.0


class Division:
    """One run of the operation."""

    def __init__(self, plan: Split, model: Model, data: Dataset, ctx: Context) -> None:
        assert model.index is not None
        self.plan, self.model, self.data, self.ctx = plan, model, data, ctx
        self.index = model.index
        self.classes = model.classes
        self.points = self.index.point & ~self.index.fixed
        self.removable = self.points[self.index.group]  # bool[N]: the points with all coupled to them
        self.steps: list[Step] = []
        self.started = time.monotonic()

    def run(self) -> Outcome:
        """Let the method find modules, choose, tell."""
        from surgery.operations.evolved import evolve
        from surgery.operations.learned import from_criticality, from_ones

        {"semantic": from_criticality, "gradient": from_ones, "genetic": evolve}[self.plan.method](self)
        best = self.best()
        self.ctx.log(
            f"{best.name}: {100 * best.accuracy:.1f} % together, {100 * self.accuracy:.1f} % before; "
            f"{100 * (1 - best.share):.0f} % of neurons are outside a module"
        )
        parts, tables = self.told(best)
        return Outcome(
            (self.model,), None, {**tables, "steps": self.table}, parts, assembled=together(self.model, parts)
        )

    def add(self, name: str, keep: Tensor, heads: list[Head], outputs: Tensor) -> Step:
        """Judge what a method has come to. outputs: float[K, n, K] on the judged samples."""
        right = self.right(heads, outputs)
        accuracy, share = float(right.double().mean()), float(keep[:, self.points].double().mean())
        error = float((right != self.before).double().mean().sqrt()) / len(right) ** 0.5
        seconds = time.monotonic() - self.started
        step = Step(name, keep.clone(), tuple(map(copy.deepcopy, heads)), accuracy, share, seconds, error)
        self.steps.append(step)
        self.ctx.point(accuracy=accuracy, neurons=share)
        return step

    def right(self, heads: list[Head], outputs: Tensor) -> Tensor:
        """bool[n]: which of the judged samples the modules together answer right."""
        with torch.no_grad():
            return scores(heads, outputs).argmax(1).cpu() == self.truth

    def best(self) -> Step:
        """Accuracy within the tolerance first, then the fewest neurons (GradSplitter, arXiv 2311.04438)."""
        if within := list(filter(self.within, self.steps)):
            return min(within, key=lambda step: step.share)
        return max(self.steps, key=lambda step: step.accuracy)

    def within(self, step: Step) -> bool:
        """Whether no more is lost than may be, its standard error included: of many steps the luckiest is taken."""
        return step.accuracy - step.error >= self.accuracy - self.plan.tolerance / 100 - 1e-9

    def closed(self, keep: Tensor) -> Tensor:
        """bool[K, N] with groups as a whole, of which no layer is empty."""
        closed = torch.stack([self.index.close(own) for own in keep])
        for own in closed:
            self.index.check(own)
        return closed

    @property
    def table(self) -> pd.DataFrame:
        """All steps in order."""
        best = self.best()
        rows = [
            {
                "step": step.name,
                "accuracy": step.accuracy,
                "lost points": 100 * (self.accuracy - step.accuracy),
                "error points": 100 * step.error,
                "neurons": step.share,
                "seconds": step.seconds,
                "chosen": step is best,
            }
            for step in self.steps
        ]
        return pd.DataFrame(rows)

    def told(self, step: Step) -> tuple[tuple[Part, ...], dict[str, pd.DataFrame]]:
        """The modules with their figures on all validation samples, and these as tables."""
        ids = self.data.ids("val")
        seen = self.masked(ids, self.removable)
        outputs = seen.outputs(step.keep, "measuring modules")
        with torch.no_grad():
            found = scores(step.heads, outputs).cpu()
        truth = seen.truth.cpu()
        figures = [recognition(found[:, k], truth == k, step.heads[k].limit) for k in range(len(self.classes))]
        shown = self._shown(ids)
        x = next(iter(self.data.batches(ids[shown], self.model.input, size=len(shown))))[0]
        proofs = [{"x": x, "score": found[shown, k].contiguous()} for k in range(len(self.classes))]
        parts = tuple(
            replace(self._part(name, step.keep[k], step.heads[k], figures[k]), proof=proofs[k])
            for k, name in enumerate(self.classes)
        )
        return parts, {
            "modules": pd.DataFrame([{"class": part.name, **part.figures} for part in parts]),
            "overlap": pd.DataFrame(
                jaccard(step.keep[:, self.points].T.numpy()), index=list(self.classes), columns=list(self.classes)
            ),
            "interdependence": self._interdependence(found, truth),
        }

    def _shown(self, ids: np.ndarray) -> np.ndarray:
        """Places of the samples that modules are proven on: a few of every class in turn, as far as they are small."""
        most = max(2, min(PROOF, PROOF_BYTES // (BYTES * math.prod(self.model.input.shape))))
        return spread(self.data.strata(ids), most, self.ctx.seed, even=True)

    def _part(self, name: str, keep: Tensor, head: Head, figures: Recognition) -> Part:
        parameters, macs = self.sizes.count(keep)
        sizes = {
            "neurons": float((keep & self.points).sum()),
            "share": float(keep[self.points].double().mean()),
            "bytes": BYTES * parameters,
            "MACs": macs,
        }
        return Part(name, keep, (name,), self.means, head.state_dict(), figures={**figures.to_json(), **sizes})

    def _interdependence(self, found: Tensor, truth: Tensor) -> pd.DataFrame:
        """Points of accuracy that each class (row) wins when the module of another (column) is taken out."""
        count = len(self.classes)
        with_all = found.argmax(1) == truth
        table = np.zeros((count, count))
        for gone in range(count):
            left = found.clone()
            left[:, gone] = -torch.inf
            gained = (left.argmax(1) == truth).double() - with_all.double()
            for own in range(count):
                if own != gone and bool((truth == own).any()):
                    table[own, gone] = 100 * float(gained[truth == own].mean())
        return pd.DataFrame(table, index=list(self.classes), columns=list(self.classes))

    def masked(self, ids: np.ndarray, free: Tensor) -> Masked:
        """The network under masks that take out some of free: bool[N], over these samples."""
        return Masked(self.model, self.means, self.data, ids, free, self.ctx, len(self.classes))

    @cached_property
    def means(self) -> Means:
        """What readers receive on average."""
        return means_of(self.model, self.data, self.ctx)

    @cached_property
    def sizes(self) -> Sizes:
        """To count with."""
        return Sizes.of(self.model, inputs_of(self.model, self.data, self.ctx, limit=COUNTED).positions)

    @cached_property
    def judged(self) -> np.ndarray:
        """Validation samples to choose on."""
        return self.chosen("val", JUDGED)

    @cached_property
    def truth(self) -> Tensor:
        """int64[n] of the judged samples."""
        return self.model.outputs_of(self.data.classes)[torch.as_tensor(self.data.labels(self.judged))]

    @cached_property
    def before(self) -> Tensor:
        """bool[n]: which of the judged samples the model as it is answers right."""
        return predict(self.model, self.data, self.judged, self.ctx, "measuring the model").argmax(1) == self.truth

    @cached_property
    def accuracy(self) -> float:
        """0–1, of the model as it is on the judged samples."""
        return float(self.before.double().mean())

    def chosen(self, role: str, limit: int) -> np.ndarray:
        """At most so many samples of a role, in proportion to the classes, mixed."""
        ids = self.data.ids(role)
        own = ids[spread(self.data.strata(ids), limit, self.ctx.seed)]
        return np.random.default_rng(self.ctx.seed).permutation(own)
