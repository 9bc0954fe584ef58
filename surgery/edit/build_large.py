"""A large uniform MLP for a table, trained from nothing: where ODF2NNA (arXiv 2310.12560) starts, to slim it later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from surgery.context import Context
from surgery.edit.evaluate import quality
from surgery.edit.tune import tune
from surgery.errors import DataError
from surgery.network.architectures import build
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec, Model, Origin

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

DECAY = 1.0  # of AdamW: what is not needed shrinks, which makes a large network generalise, and its rest easy to remove
ROUNDS, PATIENCE = 10, 3  # looks at validation samples on the way; so many without a gain end it


def build_large(
    data: Dataset, ctx: Context, *, width: int = 256, depth: int = 3, epochs: float = 40.0, rate: float = 1e-3
) -> Model:
    """An MLP of `depth` hidden layers of `width` units, trained on the role train for at most `epochs`.

    It is looked at ROUNDS times on the way, on validation samples where there are some; the best look is the result.
    For regression the target's mean and spread are in the last layer from the start. Same seed, same weights.

    Raises:
        DataError: the data is no table, has no labels, or a target that never changes.
    """
    if data.kind != "table":
        raise DataError(f"{data.name!r} holds {data.kind}; an MLP is built for a table.", "Import a CSV or Parquet.")
    if data.task == "unlabelled" or not len(data.ids("train")):
        raise DataError(f"{data.name!r} has no labelled training samples.", "Name its target column at import.")
    regression = data.task == "regression"
    mean, std = data.statistics("train")
    outputs = 1 if regression else len(data.classes)
    architecture = Architecture("mlp", {"sizes": [data.shape[0], *[width] * depth, outputs]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ctx.seed)
        module = build(architecture)
    if regression:
        aim(module.get_submodule(str(2 * depth)), data)
    model = assemble(
        module.state_dict(),
        architecture,
        input=InputSpec("table", tuple(data.shape), tuple(mean), tuple(std)),
        classes=data.classes if not regression else (data.classes[0] if data.classes else "target",),
        task="regression" if regression else "classification",
        origin=Origin(f"MLP trained on {data.name}", "", "trained here"),
    )
    return _trained(model, data, ctx, epochs, rate)


def aim(layer: nn.Module, data: Dataset) -> None:
    """Let an output layer of fresh weights begin at the mean and the spread of a regression's target.

    Raises:
        DataError: the target never changes.
    """
    labels = torch.as_tensor(data.labels(data.ids("train"))).double()
    if float(labels.std()) == 0:
        raise DataError(
            f"The target is {float(labels[0]):g} for all training samples: there is nothing to learn.",
            "Choose a target that changes.",
        )
    parameters = dict(layer.named_parameters(recurse=False))
    with torch.no_grad():
        parameters["weight"].mul_(float(labels.std()))
        if "bias" in parameters:
            parameters["bias"].fill_(float(labels.mean()))


def _trained(model: Model, data: Dataset, ctx: Context, epochs: float, rate: float) -> Model:
    """The best of the looks on the way."""
    val = data.ids("val")
    best, reached, waited = model, -np.inf, 0
    for turn in range(ROUNDS):
        own = replace(ctx, seed=ctx.seed + turn)
        model = tune(model, data, own, epochs=epochs / ROUNDS, rate=rate * (1 - turn / ROUNDS), decay=DECAY)
        if not len(val):
            best = model
            continue
        now = quality(model, data, val, ctx, "validating")
        ctx.point(quality=now)
        if now > reached:
            best, reached, waited = model, now, 0
        else:
            waited += 1
        if waited == PATIENCE:
            break
    return best
