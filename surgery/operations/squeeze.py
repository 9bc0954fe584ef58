"""The work of `SelfCompress`: find a safe start, learn bits under guard, remove rows of no bits, hold bits and tune."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from surgery.context import Context
from surgery.data.splits import spread
from surgery.edit.evaluate import means_of, quality
from surgery.edit.few_bits import Course, FewBits, Watch, learn
from surgery.edit.quantize import needed
from surgery.edit.shrink import shrink
from surgery.errors import SelectionError
from surgery.network.model import Model
from surgery.network.size import bytes_of
from surgery.operations.base import Candidate, Outcome

if TYPE_CHECKING:
    from pandas import DataFrame

    from surgery.data.dataset import Dataset
    from surgery.operations.self_compress import SelfCompress

GUARDED = 2_000  # validation samples that a look takes where there are no must-keep cases
STARTS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)  # bits that are tried until the start is safe
PATIENCE, HELD_LOOKS = 3, 5  # looks below the limit before going back; looks while bits are held
APPROACH = 0.6  # of the learning steps until the size is to be reached
FASTEST, SLOWEST = 0.3, 0.005  # bits per step
MARGIN = 0.98  # of the size asked for, that is aimed at
SPARE = 3.0  # how many times as fast as needed bits may move


class Squeeze:
    """One run of the operation."""

    def __init__(self, plan: SelfCompress, model: Model, data: Dataset, ctx: Context) -> None:
        self.plan, self.model, self.data, self.ctx = plan, model, data, ctx
        self.rows: list[dict[str, Any]] = []
        self.gone = 0  # neurons without bits
        self._check_goal()

    def run(self) -> Outcome:
        """The last safe state with its bits held and tuned."""
        training = self.start()
        if self.plan.distil:
            training.original = copy.deepcopy(self.model.module).to(self.ctx.device)
        states = [training.state()]
        if self.plan.gamma:
            watch = self._watch("learning", self._steps(self.plan.epochs) / self.plan.looks)
            learn(training, self.data, self.ctx, self._course(training), watch)
            states = [training.state(), watch.safe["training"]]
        final, kept = self._held(training, states)
        self._tell(final)
        return Outcome((final,), kept, {"looks": self.looks(), "bits": self.bits(final)})

    def _held(self, training: FewBits, states: list[dict[str, Any]]) -> tuple[Model, Tensor | None]:
        """With bits held and tuned, and without rows of no bits: of the first state from which that ends safe.

        The last state comes first: quality sinks while bits fall and often returns once they are held. The last safe
        one is safe as it is.
        """
        for state in states:
            training.restore(state)
            small, kept = self.without_empty_rows(training)
            if self._tuned(small):
                return small.settle(), kept
            self.ctx.log("held at these bits it does not become safe again: back to the last safe state")
        training.restore(states[-1])
        return training.settle(), None

    def start(self) -> FewBits:
        """The fewest uniform bits, from those of the plan on, that lose no more than allowed before any training.

        Where a size is asked for, room that it leaves is not given away: bits that come down to it in time are more.
        """
        tried = [self.plan.start, *(one for one in STARTS if one > self.plan.start)]
        target = self._target(FewBits.of(self.model, self.plan.start))
        for bits, more in zip(tried, [*tried[1:], None], strict=True):
            training = FewBits.of(self.model, bits, self.ctx.device)
            if target is not None and bits < target and more and self._in_time(more - target):
                continue
            now = self._look(training.settle())
            if now >= self.least - 1e-9:
                break
            self.ctx.log(f"{bits:g} bits for all rows lose too much before training ({now:.3f}): starting with more")
        return training

    def without_empty_rows(self, training: FewBits) -> tuple[FewBits, Tensor | None]:
        """Without the neurons all of whose rows have no bits; what they still say (a bias) is left behind as a mean."""
        keep = self._needed(training)
        if bool(keep.all()):
            return training, None
        means = means_of(training.settle(), self.data, self.ctx)
        small, kept = shrink(training.whole(), keep, means)
        self.ctx.log(f"{int((~keep).sum())} neurons of no bits removed")
        after = FewBits.of(small, self.plan.start, self.ctx.device)
        after.original = training.original
        return after, kept

    def _needed(self, training: FewBits) -> Tensor:
        """bool[N]: the neurons that stay."""
        assert self.model.index is not None
        return needed(self.model.index, training.weights, {name: p.bits for name, p in training.held().items()})

    def looks(self) -> DataFrame:
        """One row per look of the guard: stage, step, bits, bytes, quality, least, gamma, back."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def bits(self, model: Model) -> DataFrame:
        """layer, rows, bits (mean), least, most, of every weight."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "weight": name,
                    "rows": len(packing.bits),
                    "bits": float(packing.bits.double().mean()),
                    "fewest": int(packing.bits.min()),
                    "most": int(packing.bits.max()),
                }
                for name, packing in model.held.items()
            ]
        )

    @cached_property
    def guarded(self) -> np.ndarray:
        """The samples that the guard looks at: the must-keep cases, else validation samples."""
        kept = self.data.ids("preserve")
        if len(kept):
            return kept
        val = self.data.ids("val")
        return np.asarray(val[spread(self.data.strata(val), GUARDED, self.ctx.seed)])

    @cached_property
    def before(self) -> float:
        """The quality of the original on what is guarded."""
        return quality(self.model, self.data, self.guarded, self.ctx, "guarding")

    @property
    def least(self) -> float:
        """The quality that must stay."""
        return self.before - self.plan.tolerance / 100

    def smallest(self) -> int:
        """Bytes of a file in which no weight has any bits: what cannot be got below."""
        return bytes_of(FewBits.of(self.model, 0.0).settle())

    def _check_goal(self) -> None:
        if self.plan.kilobytes is None:
            return
        least = self.smallest()
        if self.plan.kilobytes * 1000 <= least:
            raise SelectionError(
                f"{self.plan.kilobytes:g} kB cannot be reached: without a single bit for its weights the file has "
                f"{least / 1000:.1f} kB.",
                "Ask for more, or remove neurons first.",
            )

    def _target(self, training: FewBits) -> float | None:
        """Average bits per weight at which the size is reached."""
        if self.plan.kilobytes is None:
            return None
        values = sum(each * len(training.bits[name]) for name, each in training.each.items())
        return max(0.0, (MARGIN * 1000 * self.plan.kilobytes - self.smallest()) * 8 / values)

    def _course(self, training: FewBits) -> Course:
        plan, target = self.plan, self._target(training)
        way = float(training.size("rows").detach()) - (target if target is not None else 1.0)
        rate = plan.rate_bits or min(FASTEST, max(SLOWEST, self._pace(way)))
        return Course(plan.epochs, plan.rate, rate, plan.gamma, target, APPROACH, plan.form, plan.distil)

    def _in_time(self, way: float) -> bool:
        """Whether so many bits can be lost while bits are learned; without γ none are."""
        return way <= 0 or (self.plan.gamma > 0 and self._pace(way) <= FASTEST)

    def _pace(self, way: float) -> float:
        """Bits per step at which so many bits are lost well in time."""
        return SPARE * max(way, 0.1) / max(APPROACH * self._steps(self.plan.epochs), 1.0)

    def _steps(self, epochs: float) -> int:
        train = self.data.ids("train")
        return max(1, round(epochs * len(self.data.batches(train, self.model.input, size=64))))

    def _tuned(self, training: FewBits) -> bool:
        """Tune with its bits held, and leave it in the last state that was safe; whether there was one."""
        plan = self.plan
        if not plan.frozen or plan.candidate is not None:
            return self._look(training.settle()) >= self.least - 1e-9
        watch = self._watch("held", self._steps(plan.frozen) / HELD_LOOKS, patience=HELD_LOOKS + 1)
        learn(training, self.data, self.ctx, Course(plan.frozen, plan.rate, distil=plan.distil), watch)
        training.restore(watch.safe["training"])
        return watch.passed > 0

    def _watch(self, stage: str, every: float, patience: int = PATIENCE) -> Watch:
        def told(step: int, now: float, back: bool, training: FewBits) -> None:
            model = training.settle()
            size = bytes_of(model)
            row = {
                "stage": stage,
                "step": step,
                "bits": float(training.size("rows").detach()),
                "bytes": size,
                "quality": now,
                "least": self.least,
                "gamma": training.gamma,
                "back": back,
            }
            self.rows.append(row)
            if training.model is self.model:  # afterwards they have been removed
                self.gone = int((~self._needed(training)).sum())
            layers = {f"bits/{name}": float(packing.bits.double().mean()) for name, packing in model.held.items()}
            self.ctx.point(
                **{"look/kept": now, "look/least": self.least, "look/bytes": size, "look/back": back},
                **{"look/gone": self.gone},
                **layers,
            )
            if back:
                self.ctx.log(
                    f"went back at step {step}: {now:.3f} is below {self.least:.3f}; γ is {training.gamma:g} now"
                )
            elif stage == "learning" and now >= self.least - 1e-9:
                number = sum(one["quality"] >= self.least - 1e-9 for one in self.rows)
                figures = {"run": "this plan", "candidate": number, **row}
                self.ctx.offer(Candidate(number, model, None, figures, accepted=True))

        every_step = max(1, round(every))
        return Watch(self._look, self.least, every_step, told, patience, stop_at=self.plan.candidate)

    def _look(self, model: Model) -> float:
        quiet = replace(self.ctx, report=lambda _: None)
        return quality(model, self.data, self.guarded, quiet, "guarding")

    def _tell(self, final: Model) -> None:
        size, went = bytes_of(final) / 1000, sum(row["back"] for row in self.rows)
        self.ctx.log(f"{size:.1f} kB; the guard went back {went} times")
        if self.plan.kilobytes is not None and size > self.plan.kilobytes:
            self.ctx.log(f"{self.plan.kilobytes:g} kB were not reached: smaller would have lost more than allowed")
