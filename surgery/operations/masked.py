"""One network under many masks, over samples that stay the same: what no mask can change is computed once and kept.

Letters: N neurons, n samples, C outputs, K masks.
"""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from surgery.analysis.replay import Frames, fill, replay, touched, weights
from surgery.analysis.tape import DivergedError, Tape, learn
from surgery.context import Context
from surgery.edit.gate import gate
from surgery.errors import DataError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.network.slicing import Means

if TYPE_CHECKING:
    import numpy as np

    from surgery.data.dataset import Dataset

KEPT = 3 * 2**29  # bytes of what the samples leave in front of the first mask
LIVE = 2**31  # bytes of one step that learns, over all masks
TOLERANCE = 1e-5  # relative, between a pass that starts in the middle and a whole one


class Masked:
    """A copy of the network, frozen, with means in place of what a mask takes out.

    truth: int64[n], the right output of each sample, in the order of the batches. cut: the call from which on a pass
    has to be made, None when every pass is a whole one.
    """

    def __init__(
        self, model: Model, means: Means, data: Dataset, ids: np.ndarray, free: Tensor, ctx: Context, masks: int
    ) -> None:
        """free: bool[N], what masks may take out. masks: how many learn at once, which bounds the batches.

        Raises:
            DataError: there are no labelled samples.
        """
        if not len(ids) or data.task != "classification":
            raise DataError("There are no labelled samples of the model's classes.", "Choose another dataset.")
        assert model.index is not None
        self.index: NeuronIndex = model.index
        self.model = replace(model, module=copy.deepcopy(model.module).requires_grad_(False).to(ctx.device).eval())
        self.means, self.ctx, self.data = means, ctx, data
        few = next(iter(data.batches(ids[:2], model.input, size=2, device=ctx.device)))[0]
        self.tape: Tape = learn(self.model, few, weights(self.model))
        self.cut = self._cut(free, len(ids)) if self._exact(few, free) else None
        self.size = max(1, min(64, LIVE // (masks * self._bytes_per_sample())))
        self.ids = [ids[start : start + self.size] for start in range(0, len(ids), self.size)]
        self.truth = model.outputs_of(data.classes)[torch.as_tensor(data.labels(ids))].to(ctx.device)
        self.frames: list[Frames] = []
        if self.cut is not None:
            for own in ctx.track(self.ids, "computing what no mask changes"):
                self.frames.append(fill(self.model, self.tape, [self.cut], self._inputs(own))[1])

    @property
    def skipped(self) -> float:
        """0–1: the share of the calls that are not made again."""
        return (self.cut or 0) / max(len(self.tape.calls), 1)

    def under(self, batch: int, mask: Tensor, *, learning: bool = False) -> Tensor:
        """float[b, C] of a batch under a mask: float[N], which the outputs can be differentiated by."""
        with gate(self.model.module, self.index, mask, self.means):
            if self.cut is not None:
                return replay(self.model, self.tape, self.frames[batch], self.cut, learning=learning)
            with nullcontext() if learning else torch.no_grad():
                return self.model(self._inputs(self.ids[batch]))

    def outputs(self, masks: Tensor, stage: str) -> Tensor:
        """float[K, n, C] of all samples under masks: [K, N]."""
        places = range(len(self.ids))
        passes = [torch.stack([self.under(b, own) for own in masks.float()]) for b in self.ctx.track(places, stage)]
        return torch.cat(passes, dim=1)

    def truths(self, batch: int) -> Tensor:
        """int64[b] of a batch."""
        return self.truth[batch * self.size : (batch + 1) * self.size]

    def _inputs(self, ids: np.ndarray) -> Tensor:
        x: Tensor = next(iter(self.data.batches(ids, self.model.input, size=len(ids), device=self.ctx.device)))[0]
        return x

    def _cut(self, free: Tensor, samples: int) -> int | None:
        """The last call to start from that lies before every mask and fits in memory."""
        first = min((self.tape.readers.get(name, 0) for name in touched(self.index, free)), default=0)
        for cut in sorted({0, *self.tape.readers.values()}, reverse=True):
            held = sum(self.tape.size[number] for number in self.tape.frontier(cut)) / self.tape.samples
            if cut <= first and held * samples <= KEPT and self.tape.cuttable(cut):
                return cut
        return None

    def _exact(self, x: Tensor, free: Tensor) -> bool:
        """Whether passes from the middle say under a mask what whole ones say."""
        cut = self._cut(free, len(x))
        if cut is None:
            return False
        mask = torch.ones(self.index.n)
        mask[free] = 0.5
        try:
            frames = fill(self.model, self.tape, [cut], x)[1]
            with gate(self.model.module, self.index, mask, self.means):
                quick = replay(self.model, self.tape, frames, cut)
                with torch.no_grad():
                    whole = self.model(x)
        except (DivergedError, RuntimeError):  # torch raises RuntimeError where hidden code meets a stand-in
            return False
        return torch.allclose(quick, whole, rtol=0, atol=TOLERANCE * max(float(whole.abs().max()), 1e-6))

    def _bytes_per_sample(self) -> int:
        """What one sample leaves for the way back under one mask."""
        first = self.cut or 0
        made = sum(size for size, born in zip(self.tape.size, self.tape.born, strict=True) if born >= first)
        return max(1, math.ceil(made / self.tape.samples))
