"""The way of `Compress` down to a size: cut, let the rest take over, tune, look, and go on while it is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.analysis import pruners, slices
from surgery.analysis.criticality import taylor
from surgery.analysis.scan import Scan, scan
from surgery.context import Context
from surgery.edit.compensate import compensate
from surgery.edit.effect import effects
from surgery.edit.evaluate import quality
from surgery.edit.expand import expand
from surgery.edit.finetune import fine_tune
from surgery.edit.fit import Budget, fit, in_order
from surgery.edit.inputs import Inputs, inputs_of
from surgery.edit.shrink import shrink
from surgery.edit.size import Sizes
from surgery.edit.twins import twins
from surgery.network.index import NeuronIndex
from surgery.network.latency import latency
from surgery.network.model import Model
from surgery.operations.base import Candidate

if TYPE_CHECKING:
    from pandas import DataFrame

    from surgery.data.dataset import Dataset
    from surgery.operations.compress import Compress

SCANNED = 2_000  # training samples for slices and Taylor
SETTLED = 4_000  # training samples for what readers receive
AT_ONCE = 0.01  # of quality that neurons which no class needs may cost before any tuning
HALVINGS = 6  # of the share of parameters: to one percent
ROUNDS = 3  # cuts of one step
OWN = "this plan"
CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "without slices": {"slices": "no", "twins": False},
    "random neurons": {"slices": "no", "twins": False, "order": "random"},
    "equal tuning, no surgery": {},
}


@dataclass(frozen=True)
class State:
    """Where the walk is: the model, and int64[n], the old id of each of its neurons."""

    model: Model
    kept: Tensor

    @property
    def index(self) -> NeuronIndex:
        """The numbering of the model."""
        assert self.model.index is not None
        return self.model.index


class Descent:
    """One walk. `walk` may be called once; `table` then tells of every candidate."""

    def __init__(
        self, plan: Compress, model: Model, data: Dataset, ctx: Context, *, run: str = OWN, samples: int = SETTLED
    ) -> None:
        self.plan, self.model, self.data, self.ctx, self.run, self.samples = plan, model, data, ctx, run, samples
        self.rows: list[dict[str, Any]] = []
        assert model.index is not None
        self.start = State(model, torch.arange(model.index.n))
        self.whole = 0.0, 0.0
        self.positions: Mapping[str, int] = {}

    @cached_property
    def before(self) -> float:
        """The quality that the plan starts from."""
        return quality(self.model, self.data, self.data.ids("val"), self.ctx, "validating")

    def walk(self) -> Candidate | None:
        """The last candidate that was accepted; None when the first one was not."""
        state, best = self.start, None
        seen = self._seen(state)
        self.whole = self._sizes(state, seen).count(torch.ones(state.index.n, dtype=torch.bool))
        self.rows.append(self._row(0, "as it is", state.model, self.before) | {"accepted": True})
        for name, share in self._stages():
            lower = self._down(name, share, state, seen)
            if lower is None:
                continue
            number, state = len(self.rows), lower
            if self.plan.epochs:
                state = replace(state, model=self._tuned(state.model, number))
            candidate = self._judge(number, name, state)
            if self.plan.candidate == number:
                return candidate
            if not candidate.accepted:
                return best
            best = candidate
            if self._quick_enough(state.model):
                break
            seen = self._seen(state)
        return best

    def sketch(self) -> tuple[Tensor, Model]:
        """The whole way in one cut without tuning: bool[N], what stays, and the model that it leaves."""
        seen = self._seen(self.start)
        sizes = self._sizes(self.start, seen)
        self.whole = sizes.count(torch.ones(self.start.index.n, dtype=torch.bool))
        parameters = self.plan.parameters * self.whole[0]
        budget = Budget(parameters, None if self.plan.macs is None else self.plan.macs * self.whole[1])
        keep = self._fitting(self.start, sizes, seen, budget)
        return keep, self._without(self.start, keep, seen).model

    def table(self) -> DataFrame:
        """One row per candidate, 0 is the input: run, candidate, stage, sizes, quality, change, accepted."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def with_controls(self, table: DataFrame, controls: Mapping[str, Mapping[str, Any]]) -> DataFrame:
        """The table with the same walk under each control, to the sizes that this one reached."""
        import pandas as pd

        tables = [table]
        reached = [row["left"] for row in self.rows[1:]]
        for name, changes in controls.items():
            self.ctx.log(f"control: {name}")
            free = self.plan.model_copy(update={"tolerance": None, "floor": None, "latency": None, **changes})
            quiet = replace(self.ctx, offer=lambda _: None)
            control = Descent(free, self.model, self.data, quiet, run=name)
            control.follow(reached, surgery=name != "equal tuning, no surgery")
            tables.append(control.table())
        return pd.concat(tables, ignore_index=True)

    def follow(self, shares: Sequence[float], *, surgery: bool) -> None:
        """Walk to given shares of the parameters, whatever the quality; without surgery only tune as long."""
        state = self.start
        seen = self._seen(state)
        self.whole = self._sizes(state, seen).count(torch.ones(state.index.n, dtype=torch.bool))
        for number, share in enumerate(shares, 1):
            if surgery:
                state = self._down("", share, state, seen) or state
            if self.plan.epochs:
                state = replace(state, model=self._tuned(state.model, number))
            measured = quality(state.model, self.data, self.data.ids("val"), self.ctx, "validating")
            self.rows.append(self._row(number, "control", state.model, measured) | {"accepted": None})
            seen = self._seen(state) if surgery else seen

    def refused(self) -> str:
        """Why there is no result."""
        last = self.rows[-1]
        return (
            f"Not even the first step stayed within the limits: with {last['left']:.0%} of the "
            f"parameters the quality on validation samples is {last['quality']:.3f}, before it was {self.before:.3f}."
        )

    def _stages(self) -> list[tuple[str, float]]:
        """(name, share of parameters to reach): what no class needs, twins, then even ratios down to the size."""
        plan = self.plan
        first = [("no class needs them", plan.parameters)] if plan.slices != "no" and self._classes else []
        second = [("twins", plan.parameters)] if plan.twins else []
        steps = [("", plan.parameters ** ((i + 1) / plan.steps)) for i in range(plan.steps)]
        return [*first, *second, *steps]

    @property
    def _classes(self) -> bool:
        return self.data.task == "classification"

    def _down(self, name: str, share: float, state: State, seen: Inputs) -> State | None:
        """The state after one stage, None when there is nothing to do.

        A step by effect is made in ROUNDS cuts, each after a new look: what has been taken over changes what others
        can predict.
        """
        now = self._sizes(state, seen).count(torch.ones(state.index.n, dtype=torch.bool))[0] / self.whole[0]
        rounds = ROUNDS if not name and self.plan.order == "effect" and share < now else 1
        lower = None
        for turn in range(1, rounds + 1):
            part = share if turn == rounds else now * (share / now) ** (turn / rounds)
            cut = self._cut(name, part, state, seen)
            if cut is not None:
                state = lower = self._without(state, cut, seen)
                if turn < rounds:
                    seen = self._seen(state)
        return lower

    def _cut(self, name: str, share: float, state: State, seen: Inputs) -> Tensor | None:
        """bool[n]: what stays after one stage; None when there is nothing to do."""
        sizes = self._sizes(state, seen)
        budget = Budget(share * self.whole[0], None if self.plan.macs is None else self._macs(share))
        if name == "no class needs them":
            keep = self._needed(state, sizes, seen)
        elif name == "twins":
            cut = twins(state.index, seen)
            keep = state.index.close((cut == torch.arange(len(cut))) | self._protected(state))
        else:
            parameters, macs = sizes.count(torch.ones(state.index.n, dtype=torch.bool))
            if parameters <= budget.parameters and (budget.macs is None or macs <= budget.macs):
                return None  # the slices have brought it here already
            return self._fitting(state, sizes, seen, budget)
        if sizes.count(keep)[0] < budget.parameters:  # not below the size that was asked for
            keep = in_order(sizes, torch.where(keep, torch.inf, effects(state.model, seen, self.ctx)), budget)
        return None if bool(keep.all()) else keep

    def _macs(self, share: float) -> float:
        """The limit on the way: the same power of the final one as the share of parameters has."""
        assert self.plan.macs is not None
        way = torch.log(torch.tensor(share)) / torch.log(torch.tensor(self.plan.parameters))
        return float(self.plan.macs ** float(way)) * self.whole[1]

    def _fitting(self, state: State, sizes: Sizes, seen: Inputs, budget: Budget) -> Tensor:
        """What stays when the plan's order is followed down to a budget."""
        order = self.plan.order
        if order == "effect":
            worth = effects(state.model, seen, self.ctx)
        elif order == "random":
            generator = torch.Generator().manual_seed(self.ctx.seed)
            worth = torch.rand(state.index.n, generator=generator, dtype=torch.float64)[state.index.group]
        elif order == "taylor":
            worth = self._taylor(state, self._scan(state)).amax(1).double()
        else:
            worth = pruners.importance(order, state.model)
        if self.plan.layers == "alike":
            worth = pruners.within_layers(state.index, worth)
        worth = torch.where(self._protected(state) | state.index.fixed, torch.inf, worth)
        by_cost = order == "effect" and self.plan.layers == "together"
        return fit(sizes, worth, budget) if by_cost else in_order(sizes, worth, budget)

    def _needed(self, state: State, sizes: Sizes, seen: Inputs) -> Tensor:
        """bool[n]: what is left when neurons go that no class needs, by the plan's rule."""
        found = self._scan(state)
        scores = self._taylor(state, found)
        worth = torch.where(self._protected(state) | state.index.fixed, torch.inf, scores.amax(1).double())
        if self.plan.slices == "ranked":
            return self._cheapest(state, sizes, seen, worth)
        level = slices.levels(state.model, self.data, found, scores, self.ctx, fill="mean")
        needed = slices.critical(level, self.plan.theta).any(1)
        keep = in_order(sizes, torch.where(needed, torch.inf, worth), Budget(0.0), at_least=False)
        free = 1 - float(keep.double().mean())
        self.ctx.log(
            f"{free:.0%} of the neurons are needed by no class at Θ = {self.plan.theta:g}"
            if free
            else f"At Θ = {self.plan.theta:g} every neuron is critical for some class, so the slices free nothing; "
            "a smaller Θ frees more. The steps go on from the whole network."
        )
        return keep

    def _cheapest(self, state: State, sizes: Sizes, seen: Inputs, worth: Tensor) -> Tensor:
        """bool[n]: without as many neurons, the least critical first, as cost at most AT_ONCE before any tuning (or the
        plan's tolerance, if that is less).
        """
        whole = torch.ones(state.index.n, dtype=torch.bool)
        parameters = sizes.count(whole)[0]
        best, low, high = whole, self.plan.parameters, 1.0
        least = self.before - min(AT_ONCE, 1.0 if self.plan.tolerance is None else self.plan.tolerance / 100)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            keep = in_order(sizes, worth, Budget(middle * parameters), at_least=False)
            without = self._without(state, keep, seen).model
            if quality(without, self.data, self.data.ids("val"), self.ctx, "validating") >= least - 1e-9:
                best, high = keep, middle
            else:
                low = middle
        self.ctx.log(f"{1 - float(best.double().mean()):.0%} of the neurons may go at once")
        return best

    def _taylor(self, state: State, found: Scan) -> Tensor:
        return taylor(state.model, self.data, found, self.ctx, limit=SCANNED)

    def _scan(self, state: State) -> Scan:
        return scan(state.model, self.data, self.ctx, limit=SCANNED)

    def _protected(self, state: State) -> Tensor:
        """bool[n]: the neurons that must not go, with all coupled to them."""
        stays = torch.isin(state.kept, torch.tensor(self.plan.protect.ids, dtype=torch.long))
        return torch.isin(state.index.group, state.index.group[stays])

    def _without(self, state: State, keep: Tensor, seen: Inputs) -> State:
        changed, means = compensate(state.model, keep, seen)
        small, left = shrink(changed, keep, means)
        return State(small, state.kept[left])

    def _tuned(self, model: Model, number: int) -> Model:
        ctx, plan = replace(self.ctx, seed=self.ctx.seed + number), self.plan
        return fine_tune(model, self.data, ctx, epochs=plan.epochs, rate=plan.rate, teacher=self.model)

    def _judge(self, number: int, name: str, state: State) -> Candidate:
        """Measure a candidate on validation samples and offer it."""
        measured = quality(state.model, self.data, self.data.ids("val"), self.ctx, "validating")
        plan = self.plan
        within = plan.tolerance is None or measured >= self.before - plan.tolerance / 100 - 1e-9
        accepted = within and (plan.floor is None or measured >= plan.floor)
        row = self._row(number, name or "step", state.model, measured) | {"accepted": accepted}
        self.rows.append(row)
        candidate = Candidate(number, *self._delivered(state), row, accepted)
        self.ctx.offer(candidate)
        return candidate

    def _delivered(self, state: State) -> tuple[Model, Tensor | None]:
        """What the plan's result makes of a state: the smaller model and its old ids, or the whole one, masked."""
        if self.plan.result == "smaller":
            return state.model, state.kept
        return expand(state.model, self.model, state.kept), None

    def _row(self, number: int, stage: str, model: Model, measured: float) -> dict[str, Any]:
        assert model.index is not None
        whole = torch.ones(model.index.n, dtype=torch.bool)
        parameters, macs = Sizes.of(model, self.positions).count(whole)
        return {
            "run": self.run,
            "candidate": number,
            "stage": stage,
            "parameters": int(parameters),
            "left": parameters / self.whole[0],
            "macs": int(macs),
            "macs_left": macs / max(self.whole[1], 1.0),
            "quality": measured,
            "change": measured - self.before,
        }

    def _quick_enough(self, model: Model) -> bool:
        if self.plan.latency is None:
            return False
        took = latency({"before": self.model, "now": model}, 1, self.ctx)
        return took["now"].median <= self.plan.latency * took["before"].median

    def _seen(self, state: State) -> Inputs:
        seen = inputs_of(state.model, self.data, self.ctx, limit=self.samples)
        self.positions = seen.positions  # surgery leaves the sizes of maps as they are
        return seen

    def _sizes(self, state: State, seen: Inputs) -> Sizes:
        return Sizes.of(state.model, seen.positions)
