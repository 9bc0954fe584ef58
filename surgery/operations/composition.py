"""The work of `Compose`: members cut out, one input for all, scores put on one scale.

Letters: K modules and classes, n samples.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from surgery.context import Context
from surgery.data.splits import spread
from surgery.edit.calibrate import affine
from surgery.edit.compose import Member, compose, proven, share
from surgery.edit.evaluate import predict
from surgery.network.model import InputSpec, Model
from surgery.operations.base import Outcome

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.network.part import Part
    from surgery.operations.compose import Compose


class Composition:
    """One run of the operation. data: samples of the modules' classes alone."""

    def __init__(self, plan: Compose, chosen: list[tuple[Model, Part]], data: Dataset, ctx: Context) -> None:
        self.plan, self.chosen, self.data, self.ctx = plan, chosen, data, ctx
        self.classes = tuple(part.classes[0] for _, part in chosen)

    def run(self) -> Outcome:
        """Join, calibrate, tell."""
        made = self.made()
        return Outcome((made,), None, {"members": self.table})

    def made(self) -> Model:
        """The new model."""
        slope, shift = torch.ones(len(self.classes)), torch.zeros(len(self.classes))
        if self.plan.calibration:
            slope, shift = self._scale()
        return self._joined(slope, shift)

    @property
    def table(self) -> pd.DataFrame:
        """What each module brings and how it sees a picture."""
        rows = []
        for model, part in self.chosen:
            seen = model.input
            rows.append(
                {
                    "class": part.classes[0],
                    "module": part.digest,
                    "input": " × ".join(map(str, seen.shape)),
                    "adapted": seen != self.input,
                    "mean": ", ".join(f"{value:.3g}" for value in seen.mean[:3]),
                    "std": ", ".join(f"{value:.3g}" for value in seen.std[:3]),
                    "neurons": int(part.keep.sum()),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def input(self) -> InputSpec:
        """What the new model takes: the largest input among the modules'."""
        return max((model.input for model, _ in self.chosen), key=lambda seen: math.prod(seen.shape))

    @cached_property
    def members(self) -> list[Member]:
        """The modules cut out, what those of one model have in common stored once."""
        cut = [proven(model, part) for model, part in self.chosen]
        for source in {id(model): model for model, _ in self.chosen}.values():
            share(source, [own for own, (model, _) in zip(cut, self.chosen, strict=True) if model is source])
        return [Member(own, part.head) for own, (_, part) in zip(cut, self.chosen, strict=True)]

    def _joined(self, slope: Tensor, shift: Tensor) -> Model:
        return compose(self.members, self.input, self.classes, torch.diag(slope), shift)

    def _scale(self) -> tuple[Tensor, Tensor]:
        """Two float[K]: slope and shift of each score, of least cross-entropy; none where it answers no better so."""
        ids = self.data.ids("val")
        some = spread(self.data.strata(ids), self.plan.calibration * len(self.classes), self.ctx.seed, even=True)
        ids = np.sort(ids[some])
        plain = torch.ones(len(self.classes)), torch.zeros(len(self.classes))
        scores = predict(self._joined(*plain), self.data, ids, self.ctx, "calibrating")
        names = [self.classes.index(name) for name in self.data.classes]
        truth = torch.tensor(names)[torch.as_tensor(self.data.labels(ids))]
        slope, shift = (found.float() for found in affine(scores, truth, torch.arange(len(self.classes))))
        before, after = (float((out.argmax(1) == truth).double().mean()) for out in (scores, scores * slope + shift))
        self.ctx.log(f"{100 * before:.1f} % right before calibration, {100 * after:.1f} % after, on {len(ids)} samples")
        return (slope, shift) if after >= before else plain
