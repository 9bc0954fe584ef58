"""Fine-tune a model after surgery so that the result is never worse, on validation samples, than what it started from.

The learning rate comes from a short range test (after Smith, arXiv 1506.01186; here a short run at each of a few rates
instead of one run at a rising rate). Images are varied only in ways that the model before the surgery tolerates. That
model teaches: beside the labels, the new one learns its softened outputs (Hinton et al., arXiv 1503.02531, eq. 1).
Every few steps the model is validated; the best state is the result, and training stops early when it has not improved
for a while.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.context import Context
from surgery.edit.evaluate import predict, quality
from surgery.edit.tune import Vary, tune
from surgery.errors import DivergedError
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids

RATES = (1e-3, 3e-4, 1e-4, 3e-5)  # of AdamW, tried from the highest
TRIED = 0.1  # of the steps of the training that each rate is tried for
TRIED_AT_LEAST, TRIED_AT_MOST = 4, 40  # steps
PROBED = 2_000  # validation samples on which rates and variations are tried
LOOKS = 4  # per epoch
PATIENCE = 6  # looks without improvement after which training stops
TOLERATED = 0.02  # of accuracy that a variation of the images may cost the model before the surgery
SHIFT = 8  # images are shifted by at most an eighth of their side
BATCH = 64
STEP = 4.8  # a step of training with a teacher, in forward passes of the model


def passes(data: Dataset, epochs: float, *, rate: float | None) -> float:
    """How many forward passes of one sample a fine-tuning costs: its steps, its looks, the range test."""
    if not epochs:
        return 0.0
    train, val = len(data.ids("train")), len(data.ids("val"))
    steps = max(1, round(epochs * train / BATCH))
    tried = 0 if rate else len(RATES) * (_tried(steps) * BATCH * STEP + min(val, PROBED))
    return epochs * train * STEP + round(LOOKS * epochs) * val + tried


def fine_tune(
    model: Model,
    data: Dataset,
    ctx: Context,
    *,
    epochs: float,
    rate: float | None = None,
    decay: float = 0.0,
    teacher: Model | None = None,
) -> Model:
    """A copy of `model` trained for at most `epochs` on the role train, at least as good on the role val.

    rate: of AdamW, at its start; None chooses it from the data. decay: AdamW's weight decay. teacher: the model before
    the surgery; it is used if it has all of `model`'s classes. Without validation samples it is plain training at the
    rate given, or at the lowest of `RATES`. Same seed, same weights.

    Raises:
        DataError: there is nothing labelled to train on.
        DivergedError: the loss became NaN.
    """
    train, whole = data.ids("train"), data.ids("val")
    val = _spread(whole, PROBED)
    guide = teacher if teacher is not None and set(model.classes) <= set(teacher.classes) else None
    vary = variations(guide or model, data, val, ctx)
    if not len(val) or data.task == "unlabelled":
        return tune(model, data, ctx, epochs=epochs, rate=rate or RATES[-1], decay=decay, teacher=guide, vary=vary)
    steps = max(1, round(epochs * len(train) / BATCH))
    quiet = Context(device=ctx.device, seed=ctx.seed, cancelled=ctx.cancelled)
    if rate is None:
        part = _tried(steps) * BATCH / max(len(train), 1)

        def tried(one: float) -> Model:
            return tune(model, data, quiet, epochs=min(part, epochs), rate=one, decay=decay, teacher=guide, vary=vary)

        rate = best_rate(lambda one: loss_of(tried(one), data, val, quiet), ctx)
    looks = Best(
        lambda module: quality(replace(model, module=module), data, whole, quiet),
        every=max(1, round(steps / max(1, round(LOOKS * epochs)))),
    )
    tuned = tune(model, data, ctx, epochs=epochs, rate=rate, decay=decay, guard=looks, teacher=guide, vary=vary)
    if looks.score <= looks.before:
        ctx.log("fine-tuning did not improve the model on validation samples; it stays as it was")
    return tuned


def _tried(steps: int) -> int:
    return min(max(round(TRIED * steps), TRIED_AT_LEAST), TRIED_AT_MOST)


def best_rate(loss: Callable[[float], float], ctx: Context) -> float:
    """The one of `RATES` after which the validation loss is lowest, where a short run at each is tried.

    A rate at which the loss becomes NaN is never the best; where all do, it is the lowest.
    """

    def tried(one: float) -> float:
        try:
            found = loss(one)
        except DivergedError:
            return math.inf
        return math.inf if math.isnan(found) else found

    found = {one: tried(one) for one in reversed(RATES)}
    best = min(found, key=lambda one: found[one])
    ctx.log(f"learning rate {best:g}: the lowest validation loss of {', '.join(f'{one:g}' for one in RATES)}")
    return best


def loss_of(model: Model, data: Dataset, ids: Ids, ctx: Context) -> float:
    """Cross-entropy (of a regression, mean squared error) on samples: finer than accuracy after a few steps."""
    if model.input.kind == "text":
        return -float(np.log(max(quality(model, data, ids, ctx), 1e-30)))
    out = predict(model, data, ids, ctx)
    truth = torch.as_tensor(data.labels(ids))
    if model.task == "regression":
        return float(F.mse_loss(out[:, 0].double(), truth.double()))
    return float(F.cross_entropy(out.double(), model.outputs_of(data.classes)[truth]))


def variations(model: Model, data: Dataset, ids: Ids, ctx: Context) -> Vary | None:
    """How training images may be varied: mirrored, shifted, both, or not at all (None).

    model: before the surgery. A variation is allowed when it costs that model at most `TOLERATED` of its accuracy on
    the samples `ids`: digits are not mirrored, photographs are.
    """
    if model.input.kind != "image" or data.task != "classification" or not len(ids):
        return None
    quiet = Context(device=ctx.device, seed=ctx.seed, cancelled=ctx.cancelled)
    plain = _accuracy(model, data, ids, quiet, lambda x: x)
    by = max(1, min(model.input.shape[1:]) // SHIFT)
    mirrored = _accuracy(model, data, ids, quiet, lambda x: x.flip(-1)) >= plain - TOLERATED
    shifted = _accuracy(model, data, ids, quiet, lambda x: shift(x, by // 2 + 1, by // 2 + 1)) >= plain - TOLERATED
    allowed = [name for name, fits in (("mirrored", mirrored), ("shifted", shifted)) if fits]
    if not allowed:
        return None
    ctx.log(f"training images are {' and '.join(allowed)} at random")
    return Varied(mirrored, by if shifted else 0)


@dataclass(frozen=True)
class Varied:
    """Half of the images of a batch mirrored, all of them shifted alike by at most `by` pixels each way."""

    mirror: bool
    by: int

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """float[batch, channels, height, width], varied; the same size."""
        if self.mirror:
            chosen = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(chosen.to(x.device)[:, None, None, None], x.flip(-1), x)
        if self.by:
            down, right = (torch.randint(-self.by, self.by + 1, (2,), generator=generator)).tolist()
            x = shift(x, down, right)
        return x


def shift(x: Tensor, down: int, right: int) -> Tensor:
    """Images moved by so many pixels; what comes in at an edge repeats the edge."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (abs(right), abs(right), abs(down), abs(down)), mode="replicate")
    top, left = abs(down) - down, abs(right) - right
    return padded[..., top : top + height, left : left + width]


@dataclass
class Best:
    """A guard for `tune` that keeps the best of all states it sees, the first one included.

    look: module in eval mode -> quality, higher is better. every: steps between two looks.
    """

    look: Callable[[nn.Module], float]
    every: int
    patience: int = PATIENCE
    before: float = float("-inf")
    score: float = float("-inf")
    idle: int = 0
    good: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, module: nn.Module) -> None:
        """Look at the state before the first step."""
        self.before = self.look(module)
        self._keep(module, self.before)

    def passes(self, module: nn.Module) -> bool:
        """Keep the state if it is better than all before; True: training goes on from where it is."""
        found = self.look(module)
        if found > self.score:
            self._keep(module, found)
            self.idle = 0
        else:
            self.idle += 1
        return True

    @property
    def spent(self) -> bool:
        """Whether training has not improved for so long that it stops."""
        return self.idle >= self.patience

    def _keep(self, module: nn.Module, score: float) -> None:
        self.score = score
        self.good = {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _accuracy(model: Model, data: Dataset, ids: Ids, ctx: Context, change: Callable[[Tensor], Tensor]) -> float:
    place = model.outputs_of(data.classes).to(ctx.device)
    right = 0
    module = model.module.to(ctx.device)
    try:
        with torch.inference_mode():
            for x, y, _ in data.batches(ids, model.input, device=ctx.device):
                assert y is not None
                right += int((model.answers(module(change(x))).argmax(1) == place[y]).sum())
    finally:
        module.to("cpu")
    return right / max(len(ids), 1)


def _spread(ids: Ids, most: int) -> Ids:
    """At most so many of the samples, evenly over all of them."""
    return ids if len(ids) <= most else ids[np.linspace(0, len(ids) - 1, most).round().astype(int)]
