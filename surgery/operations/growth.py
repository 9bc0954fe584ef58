"""The work of `Extend`: free neurons, new outputs, training beside the old slice, outputs on one scale."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from surgery.context import Context
from surgery.data.splits import spread
from surgery.edit.calibrate import affine, applied, folded
from surgery.edit.evaluate import predict, quality
from surgery.edit.extract import extract
from surgery.edit.grow import grow
from surgery.edit.guard import Guard
from surgery.edit.parts import Free, not_within, rows_of, share_of
from surgery.edit.tune import Replay, samples_among, tune
from surgery.network.certificate import relative
from surgery.network.model import Model
from surgery.network.part import Part
from surgery.operations.base import Candidate, Outcome
from surgery.operations.capacity import SETTLED, Capacity, Room

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids
    from surgery.operations.extend import Extend

JUDGED = 1_000  # validation samples of each kind that a look takes
LOOKS = 4  # per epoch
CLOSE = 1e-3  # relative: what the calibrated network says against what was fitted


class Growth:
    """One run of the operation. classes: the new ones."""

    def __init__(
        self, plan: Extend, model: Model, data: Dataset, new: Dataset, classes: tuple[str, ...], ctx: Context
    ) -> None:
        self.plan, self.model, self.data, self.new, self.classes, self.ctx = plan, model, data, new, classes, ctx
        self.quiet = Context(device=ctx.device, seed=ctx.seed, cancelled=ctx.cancelled)

    def capacity(self, samples: int = SETTLED, judged: int | None = None) -> Capacity:
        """The search for what is free, on so many training and validation samples (None = all)."""
        val = self.data.ids("val")
        judged_on = val if judged is None else self._spread(self.data, val, judged)
        return Capacity(self.plan, self.model, self.data, self.ctx, judged_on, samples)

    def run(self) -> Outcome:
        """Free, grow, train, calibrate, tell."""
        room = self.room
        self.ctx.log(
            f"{room.share:.0%} of the neurons are free; the slice has {room.after:.1%}, before {room.before:.1%}"
        )
        replay = self.plan.replay
        made = tune(
            self.start,
            self.new,
            self.ctx,
            epochs=self.plan.epochs,
            rate=self.plan.rate,
            free=self.free,
            guard=self.guard(),
            replay=Replay(self.data, replay) if replay else None,
            among=self.fresh if self.plan.task == "known" and not replay else None,
        )
        made = self.finished(made)
        return Outcome((made,), self.kept, self.tables(made), (self.part,))

    @cached_property
    def room(self) -> Room:
        """What the old classes can spare."""
        return self.capacity().find()

    @cached_property
    def start(self) -> Model:
        """The network with free neurons and new outputs, before it learns."""
        return grow(self.room.model, self.classes, self.ctx.seed)

    @cached_property
    def part(self) -> Part:
        """The old slice within it."""
        assert self.start.index is not None
        added = torch.zeros(self.start.index.n - len(self.room.keep), dtype=torch.bool)
        return Part("before", torch.cat([self.room.keep, added]), self.model.classes)

    @cached_property
    def free(self) -> Free:
        """What may move."""
        if self.plan.way == "beside":
            return rows_of(self.start, ~self.part.keep)
        return not_within(self.start, self.part.keep)

    @property
    def kept(self) -> Tensor:
        """int64[N_new]: the old id of each neuron, −1 for the new outputs."""
        ids = torch.arange(len(self.part.keep))
        return torch.where(ids < len(self.room.keep), ids, -1)

    @property
    def fresh(self) -> Tensor:
        """int64[k]: the places of the new outputs."""
        return torch.arange(len(self.model.classes), len(self.model.classes) + len(self.classes))

    @cached_property
    def old_ids(self) -> Ids:
        """Validation samples of the old classes that looks take, spread over classes."""
        return self._spread(self.data, self.data.ids("val"), JUDGED)

    @cached_property
    def new_ids(self) -> Ids:
        """Validation samples of the new classes that looks take; samples of old ones in the new data do not count."""
        return self._spread(self.new, samples_among(self.start, self.new, self.new.ids("val"), self.fresh), JUDGED)

    def guard(self) -> Guard:
        """Nothing old can be lost, so it only watches, and keeps the state that is best on the new classes."""
        steps = -(-len(self.new.ids("train")) // 64)
        known = torch.arange(len(self.model.classes)) if self.plan.task == "known" else None

        def on(module: nn.Module, data: Dataset, ids: Ids, among: Tensor | None) -> float:
            return quality(replace(self.start, module=module), data, ids, self.quiet, among=among)

        return Guard(
            look=lambda module: on(module, self.data, self.old_ids, known),
            prefer=lambda module: on(module, self.new, self.new_ids, self.fresh),
            least=-1.0,
            every=max(1, steps // LOOKS),
            report=lambda a, b: self.ctx.point(old=a, new=b if b is not None else float("nan")),
            most=None if self.plan.candidate is None else self.plan.candidate * LOOKS,
            after=self.offer,
        )

    def offer(self, guard: Guard) -> None:
        """The best state so far, about once per epoch, as it would be delivered."""
        if guard.looks % LOOKS:
            return
        module = copy.deepcopy(self.start.module)
        module.load_state_dict(guard.good)
        number = guard.looks // LOOKS
        figures = {"candidate": number, "stage": f"epoch {number}", "new": guard.score}
        model = self.finished(replace(self.start, module=module))
        self.ctx.offer(Candidate(number, model, self.kept, figures, accepted=True, parts=(self.part,)))

    def finished(self, model: Model) -> Model:
        """Where the task is unknown, with its outputs on one scale."""
        return self.calibrated(model) if self.plan.task == "unknown" else model

    def calibrated(self, model: Model) -> Model:
        """The new outputs on the scale of the old, fitted on a few validation samples of every class."""
        used = [
            (data, self._spread(data, data.ids("val"), self.plan.calibration * len(data.classes)))
            for data in (self.data, self.new)
        ]
        logits = torch.cat([predict(model, data, ids, self.quiet) for data, ids in used])
        truth = torch.cat([model.outputs_of(data.classes)[torch.as_tensor(data.labels(ids))] for data, ids in used])
        slope, shift = affine(logits, truth, self.fresh)
        wanted = applied(logits.double(), self.fresh, slope, shift)
        before, after = (float((out.argmax(1) == truth).double().mean()) for out in (logits, wanted))
        if after < before:
            self.ctx.log("the new outputs are on the scale of the old as they are")
            return model
        fitted = folded(model, self.fresh, slope, shift)
        said = torch.cat([predict(fitted, data, ids, self.quiet) for data, ids in used])
        if relative(said.double(), wanted) > CLOSE:
            self.ctx.log("something follows the last layer, so the outputs are left as they were trained")
            return model
        self.ctx.log(
            f"calibrated on {len(truth)} validation samples: {before:.1%} of them right before, {after:.1%} now"
        )
        return fitted

    def tables(self, made: Model) -> dict[str, pd.DataFrame]:
        """slice: what became of the old; layers: where the free neurons are; classes: the new ones."""
        room = self.room
        before, after = (
            predict(extract(model, self.part)[0], self.data, self.old_ids, self.quiet) for model in (self.start, made)
        )
        facts = {
            "free": room.share,
            "parameters trained": share_of(self.start, self.free),
            "quality before": room.before,
            "quality of the slice": room.after,
            "outputs moved by": float((after - before).abs().max()),
        }
        index = self.model.index
        assert index is not None
        layers = [
            {"layer": name, "neurons": len(layer.rows), "free": int((~room.keep)[layer.rows].sum())}
            for name, layer in index.layers.items()
        ]
        place = made.outputs_of(self.new.classes)
        ids = self.new_ids
        truth = place[torch.as_tensor(self.new.labels(ids))]
        said = predict(made, self.new, ids, self.quiet)
        known, unknown = self.fresh[said[:, self.fresh].argmax(1)], said.argmax(1)
        rows = [
            {
                "class": name,
                "task known": float((known[truth == c] == c).double().mean()),
                "task unknown": float((unknown[truth == c] == c).double().mean()),
                "samples": int((truth == c).sum()),
            }
            for c, name in zip(self.fresh.tolist(), self.classes, strict=True)
        ]
        return {"slice": pd.DataFrame([facts]), "layers": pd.DataFrame(layers), "classes": pd.DataFrame(rows)}

    def _spread(self, data: Dataset, ids: Ids, count: int) -> Ids:
        return ids[np.sort(spread(data.strata(ids), count, 0))]
