"""The work of `Extend`: free neurons, new outputs, training beside the old slice, outputs on one scale."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

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
from surgery.operations.base import Outcome
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
        room = self.capacity().find()
        self.ctx.log(
            f"{room.share:.0%} of the neurons are free; the slice has {room.after:.1%}, before {room.before:.1%}"
        )
        start = grow(room.model, self.classes, self.ctx.seed)
        part = Part(", ".join(self.model.classes[:3]), self.slice_in(start, room), self.model.classes)
        free = self.free(start, part)
        replay = self.plan.replay if len(self.data.ids("train")) else 0.0
        made = tune(
            start,
            self.new,
            self.ctx,
            epochs=self.plan.epochs,
            rate=self.plan.rate,
            free=free,
            guard=self.guard(start),
            replay=Replay(self.data, replay) if replay else None,
            among=self.fresh if self.plan.task == "known" and not replay else None,
        )
        if self.plan.task == "unknown":
            made = self.calibrated(made)
        return Outcome((made,), self.kept(start), self.tables(start, made, part, room, share_of(start, free)), (part,))

    @property
    def fresh(self) -> Tensor:
        """int64[k]: the places of the new outputs."""
        return torch.arange(len(self.model.classes), len(self.model.classes) + len(self.classes))

    @cached_property
    def old_ids(self) -> Ids:
        """Validation samples of the old classes that looks take, spread over classes."""
        return self._spread(self.data, self.data.ids("val"), JUDGED)

    def new_ids(self, model: Model) -> Ids:
        """Validation samples of the new classes that looks take; samples of old ones in the new data do not count."""
        return self._spread(self.new, samples_among(model, self.new, self.new.ids("val"), self.fresh), JUDGED)

    def slice_in(self, grown: Model, room: Room) -> Tensor:
        """bool[N_new]: the old slice among the neurons of the grown network."""
        assert grown.index is not None
        return torch.cat([room.keep, torch.zeros(grown.index.n - len(room.keep), dtype=torch.bool)])

    def free(self, grown: Model, part: Part) -> Free:
        """What may move."""
        return rows_of(grown, ~part.keep) if self.plan.way == "beside" else not_within(grown, part.keep)

    def kept(self, grown: Model) -> Tensor:
        """int64[N_new]: the old id of each neuron, −1 for the new outputs."""
        assert grown.index is not None and self.model.index is not None
        ids = torch.arange(grown.index.n)
        return torch.where(ids < self.model.index.n, ids, -1)

    def guard(self, grown: Model) -> Guard:
        """Nothing old can be lost, so it only watches, and keeps the state that is best on the new classes."""
        steps = -(-len(self.new.ids("train")) // 64)
        ids, among = self.new_ids(grown), self.fresh
        known = torch.arange(len(self.model.classes)) if self.plan.task == "known" else None
        return Guard(
            look=lambda module: quality(
                replace(grown, module=module), self.data, self.old_ids, self.quiet, among=known
            ),
            prefer=lambda module: quality(replace(grown, module=module), self.new, ids, self.quiet, among=among),
            least=-1.0,
            every=max(1, steps // LOOKS),
            report=lambda a, b: self.ctx.point(old=a, new=b if b is not None else float("nan")),
        )

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

    def tables(self, start: Model, made: Model, part: Part, room: Room, share: float) -> dict[str, pd.DataFrame]:
        """slice: what became of the old; layers: where the free neurons are; classes: the new ones."""
        before, after = (predict(extract(m, part)[0], self.data, self.old_ids, self.quiet) for m in (start, made))
        facts = {
            "free": room.share,
            "parameters trained": share,
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
        ids = self.new_ids(made)
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
