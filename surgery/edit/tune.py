"""Train a model a little on its training role, to heal it after a cut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.context import Context
from surgery.errors import DataError, SurgeryError
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids

Loss = Callable[[Tensor, Tensor], Tensor]
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def tune(model: Model, data: Dataset, ctx: Context, *, epochs: float, rate: float, batch: int = 64) -> Model:
    """A copy of `model` trained for `epochs` on the role train, with AdamW and a cosine schedule from `rate`.

    Cross-entropy for classes, squared error in units of the target's spread for regression. Only normalisation and
    dropout run in training mode, so that branches a network opens in training mode (auxiliary heads) stay closed.
    epochs: a part of one takes that share of the samples, in a seeded order. Same seed, same weights.

    Raises:
        DataError: there is nothing labelled to train on.
        SurgeryError: the loss became NaN.
    """
    ids = data.ids("train")
    if data.task == "unlabelled" or not len(ids):
        raise DataError("Tuning needs labelled training data; this dataset has none.", "Set the tuning epochs to 0.")
    module = copy.deepcopy(model.module).to(ctx.device)
    tuned = replace(model, module=module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.0)
    chosen = _epochs(ids, epochs, ctx.seed)
    steps = sum(len(data.batches(own, model.input, size=batch)) for own in chosen)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    loss_of = _cross_entropy(model, data) if model.task == "classification" else _squared_error(data)
    _training(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ctx.seed)
        for epoch, own in enumerate(chosen):
            batches = data.batches(own, model.input, size=batch, device=ctx.device, seed=ctx.seed + epoch)
            for x, y, _ in ctx.track(batches, f"tuning, epoch {epoch + 1} of {len(chosen)}"):
                if len(x) == 1 and len(ids) > 1:
                    continue  # one sample has no batch statistics
                if y is None:
                    raise DataError("Tuning met a batch without labels.", "Import the dataset again.")
                loss = loss_of(tuned(x), y)
                if not torch.isfinite(loss):
                    raise SurgeryError("The loss became NaN while tuning.", "Lower the learning rate and run again.")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                ctx.point(loss=float(loss.detach()))
    return replace(model, module=module.eval().to("cpu"))


def _epochs(ids: Ids, epochs: float, seed: int) -> list[Ids]:
    """The samples of each epoch; the last one may have a part of them."""
    whole = int(epochs)
    part = round((epochs - whole) * len(ids))
    rest = [np.sort(np.random.default_rng(seed).permutation(ids)[:part])] if part else []
    return [ids] * whole + rest


def _training(module: nn.Module) -> None:
    module.eval()
    for part in module.modules():
        if isinstance(part, NORMS):
            part.train()


def _cross_entropy(model: Model, data: Dataset) -> Loss:
    place = model.outputs_of(data.classes)
    return lambda out, y: F.cross_entropy(out, place.to(y.device)[y])


def _squared_error(data: Dataset) -> Loss:
    spread = float(torch.as_tensor(data.labels(data.ids("train"))).double().var().clamp(min=1e-12))
    return lambda out, y: F.mse_loss(out.squeeze(-1), y.float()) / spread
