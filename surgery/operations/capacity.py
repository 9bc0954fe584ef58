"""What a network can spare: the neurons that its task does without, and the network in which they have no say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from surgery.analysis import slices
from surgery.analysis.criticality import taylor
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.edit.compensate import compensate
from surgery.edit.effect import effects
from surgery.edit.evaluate import quality
from surgery.edit.expand import expand
from surgery.edit.fit import Budget, in_order
from surgery.edit.inputs import Inputs, inputs_of
from surgery.edit.parts import rows_of
from surgery.edit.shrink import shrink
from surgery.edit.size import Sizes
from surgery.edit.tune import tune
from surgery.errors import SelectionError
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids
    from surgery.operations.extend import Extend

SCANNED = 2_000  # training samples for slices and Taylor
SETTLED = 4_000  # training samples for what readers receive
TRIALS = 4  # sizes of the slice that are tried, each with its tuning
FIRST, MOST = 0.3, 0.7  # share of the neurons to free
HEALING_RATE = 4e-4


@dataclass(frozen=True)
class Room:
    """A network with free neurons.

    model: of the input's size; neurons outside keep: bool[N] say nothing to those inside, and have the weights that
    they had. So the slice is `shrink(model, keep)`, without means, and whatever becomes of the free ones, it stays.
    before, after: quality on validation samples of the input and of the slice. share: free, 0–1 of all but outputs.
    """

    model: Model
    keep: Tensor
    before: float
    after: float

    @property
    def share(self) -> float:
        """0–1: how many of the neurons are free; coupled ones and outputs do not count."""
        return free_share(self.model, self.keep)


def free_share(model: Model, keep: Tensor) -> float:
    """0–1: the share of points (groups of neurons but for outputs) that are not in keep: bool[N]."""
    assert model.index is not None
    point = model.index.point
    return float((~keep & point).sum() / point.sum().clamp(min=1))


class Capacity:
    """The search for free neurons in one model, by the rule of a plan."""

    def __init__(self, plan: Extend, model: Model, data: Dataset, ctx: Context, val: Ids, samples: int) -> None:
        """val: the validation samples to judge by. samples: of training, to observe what readers receive."""
        self.plan, self.model, self.data, self.ctx, self.val, self.samples = plan, model, data, ctx, val, samples
        assert model.index is not None
        self.index = model.index

    @cached_property
    def before(self) -> float:
        """Quality of the input on validation samples."""
        return quality(self.model, self.data, self.val, self.ctx, "validating")

    @property
    def least(self) -> float:
        """The quality that the slice must have."""
        return self.before - self.plan.tolerance / 100

    def find(self) -> Room:
        """The largest room whose slice stays within the tolerance after its tuning.

        Raises:
            SelectionError: nothing is free.
        """
        if self.plan.choose == "theta":
            room = self.tried(self.needed())
            if not room.share:
                raise SelectionError(
                    f"At Θ = {self.plan.theta:g} every neuron is critical for some class: nothing is free.",
                    "Choose a smaller Θ, or rank the neurons by effect, which nearly always frees some.",
                )
            if room.after < self.least - 1e-9:
                raise SelectionError(
                    f"At Θ = {self.plan.theta:g} {room.share:.0%} of the neurons would be free, but without them the "
                    f"quality on validation samples falls from {self.before:.3f} to {room.after:.3f}.",
                    "Choose a larger Θ, tune the slice longer, or allow a larger loss.",
                )
            return room
        low, high, share = 0.0, MOST, FIRST
        best, least = None, 0.0
        for _ in range(TRIALS):
            room = self.tried(self.without(share))
            self.ctx.log(f"{room.share:.0%} of the neurons free: {room.after:.1%} on validation samples")
            if room.after >= self.least - 1e-9:
                best, low = (room if best is None or room.share > best.share else best), share
            else:
                high, least = share, room.share
            share = (low + high) / 2
        if best is None or not best.share:
            raise SelectionError(
                f"Without {least:.1%} of its neurons the network already loses more than {self.plan.tolerance:g} "
                "points of its quality: nothing is free.",
                "Allow a larger loss, tune the slice longer, or start from a larger network.",
            )
        return best

    def at_once(self) -> Tensor:
        """bool[N]: a slice that stays within the tolerance without any tuning; a look ahead, at most too large."""
        if self.plan.choose == "theta":
            return self.needed()
        low, high, best = 0.0, MOST, torch.ones(self.index.n, dtype=torch.bool)
        for _ in range(TRIALS + 1):
            share = (low + high) / 2
            keep = self.without(share)
            small, _ = self.slice(keep)
            if quality(small, self.data, self.val, self.ctx, "validating") >= self.least - 1e-9:
                best, low = keep, share
            else:
                high = share
        return best

    def tried(self, keep: Tensor) -> Room:
        """The room that is left when the slice `keep: bool[N]` takes over, and is tuned as the plan says."""
        small, kept = self.slice(keep)
        if self.plan.healing:
            small = tune(small, self.data, self.ctx, epochs=self.plan.healing, rate=HEALING_RATE)
        after = quality(small, self.data, self.val, self.ctx, "validating")
        return Room(self._refilled(expand(small, self.model, kept), ~keep), keep, self.before, after)

    def slice(self, keep: Tensor) -> tuple[Model, Tensor]:
        """The network with only keep: bool[N], which has taken over what it can, and int64[n], the old ids."""
        changed, means = compensate(self.model, keep, self.seen)
        return shrink(changed, keep, means)

    def without(self, share: float) -> Tensor:
        """bool[N]: what stays when this share of the neurons goes, the least worthy first."""
        count = round(share * int(self.index.point.sum()))
        order = self.worth[self.index.point].sort().values
        limit = order[min(count, len(order) - 1)]
        worth = torch.where(self.worth < limit, self.worth, torch.inf)
        return in_order(self.sizes, worth, Budget(0.0), at_least=False)

    def needed(self) -> Tensor:
        """bool[N]: what some class needs at Θ, by Taylor scores with means (NeuSemSlice's rule)."""
        found = scan(self.model, self.data, self.ctx, limit=SCANNED)
        scores = taylor(self.model, self.data, found, self.ctx, limit=SCANNED)
        level = slices.levels(self.model, self.data, found, scores, self.ctx, fill="mean")
        needed = slices.critical(level, self.plan.theta).any(1)
        worth = torch.where(needed, torch.inf, scores.amax(1).double())
        return in_order(self.sizes, worth, Budget(0.0), at_least=False)

    @cached_property
    def worth(self) -> Tensor:
        """float64[N]: what each neuron's removal costs, infinity = it has to stay."""
        if self.plan.choose == "random":
            generator = torch.Generator().manual_seed(self.ctx.seed)
            found = torch.rand(self.index.n, generator=generator, dtype=torch.float64)[self.index.group]
        elif self.plan.choose == "taylor":
            seen = scan(self.model, self.data, self.ctx, limit=SCANNED)
            found = taylor(self.model, self.data, seen, self.ctx, limit=SCANNED).amax(1).double()
        else:
            found = effects(self.model, self.seen, self.ctx)
        return torch.where(self.index.fixed, torch.inf, found)

    @cached_property
    def seen(self) -> Inputs:
        """What readers receive on training samples of the task."""
        return inputs_of(self.model, self.data, self.ctx, limit=self.samples)

    @cached_property
    def sizes(self) -> Sizes:
        """To count with."""
        return Sizes.of(self.model, self.seen.positions)

    def _refilled(self, model: Model, free: Tensor) -> Model:
        """The free neurons with what they had: a better start than none. What they say to the others stays zero."""
        old = self.model.module.state_dict()
        own = rows_of(model, free)
        with torch.no_grad():
            for name, tensor in model.module.state_dict().items():
                if name in old:
                    tensor.copy_(torch.where(own[name], old[name], tensor))
        return replace(model)
