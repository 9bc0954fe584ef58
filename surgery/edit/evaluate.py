"""Run a model over samples: what operations may ask of the data they are given (they are never given test)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.context import Context
from surgery.errors import DataError
from surgery.network.model import Model
from surgery.network.readers import Readers
from surgery.network.slicing import Means

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

MEANS_FROM = 2_000  # samples: the mean of a mean settles long before


@contextmanager
def placed(device: str, *modules: nn.Module) -> Iterator[None]:
    """Inside it, modules lie on a device; afterwards each is where it was, whatever happened."""
    homes = [next((p.device for p in module.parameters()), torch.device("cpu")) for module in modules]
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        for module, home in zip(modules, homes, strict=True):
            module.to(home)


def predict(model: Model, data: Dataset, ids: np.ndarray, ctx: Context, stage: str = "evaluating") -> Tensor:
    """float[len(ids), outputs] on the CPU: logits, or the predicted target."""
    batches = data.batches(ids, model.input, device=ctx.device)
    with placed(ctx.device, model.module), torch.inference_mode():  # it may be asked in the middle of its training
        outs = [model(x).float().cpu() for x, _, _ in ctx.track(batches, stage)]
    return torch.cat(outs) if outs else torch.zeros(0, len(model.classes))


def quality(
    model: Model,
    data: Dataset,
    ids: np.ndarray,
    ctx: Context,
    stage: str = "evaluating",
    *,
    among: Tensor | None = None,
) -> float:
    """0–1: accuracy on the samples `ids`, or R² (which may be negative) for a regression.

    Of a text, how likely its characters are: the geometric mean of the probability of the next one, 1 ÷ perplexity.
    among: int64[k], the only outputs that are compared: for when it is known which classes come into question.

    Raises:
        DataError: there are no samples, or none with labels.
    """
    if not len(ids) or data.task == "unlabelled":
        raise DataError("There are no labelled samples to choose on.", "Import data with a validation part.")
    if model.input.kind == "text":
        return float(losses(model, data, ids, ctx, stage).double().mean().neg().exp())
    out = predict(model, data, ids, ctx, stage)
    truth = torch.as_tensor(data.labels(ids))
    if model.task == "regression":
        error = (out[:, 0].double() - truth).square().sum()
        return float(1 - error / (truth.double() - truth.double().mean()).square().sum().clamp(min=1e-12))
    answers = out.argmax(1) if among is None else among[out[:, among].argmax(1)]
    return float((answers == model.outputs_of(data.classes)[truth]).double().mean())


def losses(model: Model, data: Dataset, ids: np.ndarray, ctx: Context, stage: str = "evaluating") -> Tensor:
    """float[len(ids)] on the CPU: of each window of a text the cross-entropy of the next character, in nats.

    Averaged over all its positions, or at the end alone where the model answers there only.

    Raises:
        DataError: the text has characters that the model does not know.
    """
    place = model.outputs_of(data.classes).to(ctx.device)
    found = []
    with placed(ctx.device, model.module), torch.inference_mode():
        for x, y, _ in ctx.track(data.batches(ids, model.input, size=64, device=ctx.device), stage):
            out, right = model.lessons(x, place[y], model.module(x))
            found.append(F.cross_entropy(out.float(), right, reduction="none").view(len(x), -1).mean(1).cpu())
    return torch.cat(found) if found else torch.zeros(0)


def means_of(model: Model, data: Dataset, ctx: Context, limit: int = MEANS_FROM) -> Means:
    """layer -> float[in]: what each reader receives on average, per input position, over training samples.

    Takes the first `limit` training samples in a seeded order (all roles without labels serve when there is no
    training data). Deterministic for a seed and a dataset.
    """
    ids = training_ids(data)
    chosen = np.sort(np.random.default_rng(ctx.seed).permutation(ids)[:limit])
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def before(layer: str, x: Tensor, axis: int) -> Tensor:
        others = [a for a in range(x.dim()) if a != axis]
        found = x.double().sum(others) if others else x.double()
        sums[layer] = sums[layer] + found if layer in sums else found
        counts[layer] = counts.get(layer, 0) + x.numel() // x.shape[axis]
        return x

    module = model.module.to(ctx.device)
    try:
        with torch.no_grad(), Readers(module, before):
            for x, _, _ in ctx.track(data.batches(chosen, model.input, device=ctx.device), "averaging activations"):
                model(x)
    finally:
        module.to("cpu")
    return {layer: (total / counts[layer]).float().cpu() for layer, total in sums.items()}


def training_ids(data: Dataset) -> np.ndarray:
    """Rows of the role train; without any, the first role that has rows."""
    for role in ("train", "unlabelled", "val"):
        ids = data.ids(role)
        if len(ids):
            return ids
    return np.zeros(0, dtype=np.int64)
