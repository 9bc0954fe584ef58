"""The work of `SlimMlp`: a network for every ε, tuned and judged; then whole layers; then the controls.

Every ε starts from the given model, so candidates do not depend on one another; layers go from the one that was chosen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.analysis.variability import dense_units, emptied, spread_of, useful
from surgery.context import Context
from surgery.edit.build_large import aim
from surgery.edit.bypass import bypass, layers_of
from surgery.edit.evaluate import predict, quality
from surgery.edit.finetune import fine_tune
from surgery.edit.inputs import Inputs, inputs_of
from surgery.edit.shrink import shrink
from surgery.edit.size import Sizes
from surgery.errors import SelectionError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.operations.base import Candidate, Outcome

if TYPE_CHECKING:
    from pandas import DataFrame

    from surgery.data.dataset import Dataset
    from surgery.operations.slim_mlp import SlimMlp

SETTLED = 10_000  # training samples that variability is measured on
OWN = "this plan"


class Slimming:
    """One run of the operation."""

    def __init__(self, plan: SlimMlp, model: Model, data: Dataset, ctx: Context, *, samples: int = SETTLED) -> None:
        self.plan, self.model, self.data, self.ctx, self.samples = plan, model, data, ctx, samples
        self.rows: list[dict[str, Any]] = []
        self.least_surprised: Tensor | None = None

    def run(self) -> Outcome:
        """The smallest candidate within the limit.

        Raises:
            SelectionError: none is, or the only ε empties a layer.
        """
        self.rows.append(self._row(0, "as it is", self.model, self.before) | {"accepted": True})
        best = self._sweep() or self._as_it_is()
        if self.plan.layers and not self._ended(best):
            best = self._without_layers(best)
        if not best.number:
            raise SelectionError(self._refused(), "Allow more loss, tune longer, or sweep from a smaller ε.")
        if self.plan.controls:
            self._controls(best)
        return Outcome((best.model,), best.kept, {"candidates": self.table()})

    def table(self) -> DataFrame:
        """One row per candidate, 0 is the input: run, candidate, stage, epsilon, sizes, quality, change, accepted."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def keep(self, epsilon: float) -> Tensor:
        """bool[N]: what stays at a tolerance.

        Raises:
            SelectionError: nothing of a layer would.
        """
        keep = useful(self.index, self.spread, epsilon, self.plan.reference)
        if names := emptied(self.index, keep):
            raise SelectionError(
                f"At ε = {epsilon:g} nothing would stay of {', '.join(names)}.",
                "All its units vary alike, or none does: choose a smaller ε.",
            )
        return keep

    def slim(self, epsilon: float) -> tuple[Model, Tensor]:
        """The network at a tolerance before any tuning, and the old ids of its neurons; what goes leaves its mean."""
        means = {layer: mean.float() for layer, mean in self.seen.mean.items()}
        return shrink(self.model, self.keep(epsilon), means)

    @property
    def index(self) -> NeuronIndex:
        """The numbering of the given model."""
        assert self.model.index is not None
        return self.model.index

    @cached_property
    def seen(self) -> Inputs:
        """What every layer receives."""
        return inputs_of(self.model, self.data, self.ctx, limit=self.samples)

    @cached_property
    def spread(self) -> Tensor:
        """float64[N]: the standard deviation of every neuron's output."""
        return spread_of(self.index, self.seen.variance)

    @cached_property
    def before(self) -> float:
        """The quality that the plan starts from."""
        return self._quality(self.model)

    @property
    def least(self) -> float:
        """The quality that must stay; one validation sample may always change, as nothing finer can be seen."""
        finest = 1 / len(self.data.ids("val")) if self.data.task == "classification" else 0.0
        return self.before - max(self.plan.tolerance / 100, finest)

    @cached_property
    def whole(self) -> tuple[float, float]:
        """Parameters and multiply-accumulates of the given model."""
        return self._count(self.model)

    def _sweep(self) -> Candidate | None:
        """The last candidate within the limit, or the one where the plan ends."""
        best = None
        for number, epsilon in enumerate(self.plan.epsilons, 1):
            try:
                model, kept = self.slim(epsilon)
            except SelectionError as error:
                if self.plan.epsilon is not None:
                    raise
                self.ctx.log(str(error))
                break
            candidate = self._judge(number, f"ε = {epsilon:g}", self._tuned(model, number), kept, epsilon)
            if self.plan.candidate == number:
                return candidate
            best = candidate if candidate.accepted else best
        return best

    def _as_it_is(self) -> Candidate:
        """The given model, from which layers may go where no ε was good enough."""
        return Candidate(0, self.model, torch.arange(self.index.n), self.rows[0], accepted=True)

    def _without_layers(self, best: Candidate) -> Candidate:
        """Layers go, the most linear first, as long as the result stays within the limit."""
        while len(names := layers_of(best.model)) > 0:
            tried = {name: bypass(best.model, name, self.data, self.ctx) for name in names}
            name = min(tried, key=lambda one: tried[one].unexplained)
            self.ctx.log(f"{name}: a linear map leaves {tried[name].unexplained:.1%} of its work undone")
            number = len(self.rows)
            assert best.kept is not None
            kept = best.kept[tried[name].kept]
            model = self._tuned(tried[name].model, number)
            epochs = float(best.figures["epochs"]) + self.plan.epochs
            candidate = self._judge(number, f"without layer {name}", model, kept, None, epochs)
            if self._ended(candidate):
                return candidate
            if not candidate.accepted:
                return best
            best = candidate
        return best

    def _ended(self, candidate: Candidate) -> bool:
        return self.plan.candidate == candidate.number

    def _controls(self, best: Candidate) -> None:
        """Rows of what else as many epochs as the result took make, at its size."""
        epochs = float(best.figures["epochs"])
        controls: dict[str, Callable[[], Model]] = {
            "random neurons": self._random,
            "same topology from scratch": lambda: from_scratch(best.model, self.data, self.ctx.seed),
            "equal tuning, no surgery": lambda: self.model,
        }
        for run, make in controls.items():
            self.ctx.log(f"control: {run}")
            model = self._tuned(make(), best.number, epochs)
            row = self._row(best.number, "control", model, self._quality(model), None, epochs)
            self.rows.append({**row, "run": run, "accepted": None})

    def _random(self) -> Model:
        """As many units of every layer as the last ε that was accepted leaves, drawn at random."""
        accepted = [row["epsilon"] for row in self.rows if row["accepted"] and row["epsilon"] is not None]
        keep, units = self.keep(accepted[-1]), dense_units(self.index)
        generator = torch.Generator().manual_seed(self.ctx.seed)
        drawn = torch.ones_like(keep)
        for layer in self.index.layers.values():
            own = layer.rows[units[layer.rows]]
            order = own[torch.randperm(len(own), generator=generator)]
            drawn[order[int(keep[own].sum()) :]] = False
        means = {layer: mean.float() for layer, mean in self.seen.mean.items()}
        return shrink(self.model, drawn, means)[0]

    def _tuned(self, model: Model, number: int, epochs: float | None = None) -> Model:
        epochs = self.plan.epochs if epochs is None else epochs
        if not epochs:
            return model
        ctx = replace(self.ctx, seed=self.ctx.seed + number)
        plan = self.plan
        return fine_tune(model, self.data, ctx, epochs=epochs, rate=plan.rate, decay=plan.decay, teacher=self.model)

    def _judge(
        self, number: int, stage: str, model: Model, kept: Tensor, epsilon: float | None, epochs: float | None = None
    ) -> Candidate:
        measured = self._quality(model)
        accepted = measured >= self.least - 1e-9 and self._as_likely(model)
        spent = self.plan.epochs if epochs is None else epochs
        row = self._row(number, stage, model, measured, epsilon, spent) | {"accepted": accepted}
        self.rows.append(row)
        candidate = Candidate(number, model, kept, row, accepted)
        self.ctx.offer(candidate)
        return candidate

    def _row(
        self,
        number: int,
        stage: str,
        model: Model,
        measured: float,
        epsilon: float | None = None,
        epochs: float = 0.0,
    ) -> dict[str, Any]:
        parameters, macs = self._count(model)
        return {
            "run": OWN,
            "candidate": number,
            "stage": stage,
            "epsilon": epsilon,
            "epochs": epochs,
            "parameters": int(parameters),
            "left": parameters / self.whole[0],
            "macs": int(macs),
            "macs_left": macs / max(self.whole[1], 1.0),
            "quality": measured,
            "change": measured - self.before,
        }

    def _count(self, model: Model) -> tuple[float, float]:
        assert model.index is not None
        return Sizes.of(model, self.seen.positions).count(torch.ones(model.index.n, dtype=torch.bool))

    def _quality(self, model: Model) -> float:
        return quality(model, self.data, self.data.ids("val"), self.ctx, "validating")

    def _as_likely(self, model: Model) -> bool:
        """Whether validation labels are as likely as with the likeliest so far, to one standard error of the change.

        Asked only where one sample weighs more than the tolerance: accuracy alone is too coarse to choose by then. The
        given model alone would be a poor measure, for tuning may gain more likelihood than what went has cost.
        """
        n = len(self.data.ids("val"))
        if self.data.task != "classification" or n * self.plan.tolerance >= 100:
            return True
        if self.least_surprised is None:
            self.least_surprised = self._surprise(self.model)
        own = self._surprise(model)
        change = own - self.least_surprised
        if float(change.mean()) < 0:
            self.least_surprised = own
        return float(change.mean()) <= float(change.std()) / sqrt(n)

    def _surprise(self, model: Model) -> Tensor:
        """float64[n]: the cross-entropy of every validation sample."""
        ids = self.data.ids("val")
        said = predict(model, self.data, ids, self.ctx, "validating").double()
        right = model.outputs_of(self.data.classes)[torch.as_tensor(self.data.labels(ids))]
        return F.cross_entropy(said, right, reduction="none")

    def _refused(self) -> str:
        if len(self.rows) == 1:
            return f"Already the first ε, {self.plan.epsilons[0]:g}, leaves nothing of a layer."
        best = max(self.rows[1:], key=lambda row: float(row["quality"]))
        if float(best["quality"]) >= self.least - 1e-9:
            return (
                f"{best['stage']} has a quality of {best['quality']:.3f} on validation samples, which is within the "
                f"limit, but makes their labels less likely, and {len(self.data.ids('val'))} samples are too few to "
                "choose by quality alone."
            )
        return (
            f"No ε stayed within the limit: the best, {best['stage']}, has a quality of {best['quality']:.3f} on "
            f"validation samples with {best['left']:.0%} of the parameters; before it was {self.before:.3f}."
        )


def from_scratch(model: Model, data: Dataset, seed: int) -> Model:
    """The same topology with weights drawn anew, as its modules draw them; a regression begins at its target's mean."""
    module = copy.deepcopy(model.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in module.modules():
            reset: Any = getattr(layer, "reset_parameters", None)
            if isinstance(layer, nn.Module) and callable(reset):
                reset()
    if model.task == "regression" and model.index is not None:
        outputs = [name for name, layer in model.index.layers.items() if bool(model.index.logits[layer.rows].any())]
        aim(module.get_submodule(outputs[-1]), data)
    return replace(model, module=module)
