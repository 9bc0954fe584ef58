"""What to mask at a given rate: any importance per neuron becomes the keep that masks so many of the parameters.

The ways of NeuSemSlice (arXiv 2407.20281) to choose neurons, as one number per neuron, so that all are compared at
equal share of parameters masked (its "compression rate"). Its own sweeps are over Θ and over the top p % per layer;
reading both as rankings and bisecting for the rate is ours.

Letters: N neurons, C classes, P points, n points of one layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from surgery.analysis.overlap import leaving
from surgery.analysis.slices import layers_of
from surgery.errors import SelectionError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model

Way = Literal["all", "theta", "global", "class"]
WAYS: tuple[Way, ...] = ("all", "theta", "global", "class")
Shapes = Mapping[str, tuple[int, ...]]  # parameter name -> its shape, a tied tensor once


def shapes_of(model: Model) -> Shapes:
    """The shapes of a model's parameters."""
    return {name: tuple(tensor.shape) for name, tensor in model.module.named_parameters()}


def importance(way: Way, index: NeuronIndex, score: Tensor, level: Tensor) -> Tensor:
    """float[N], more = goes later. score: float[N, C]; level: float[N, C], of `surgery.analysis.slices.levels`.

    "all": all layers together by the largest score over classes. "theta": by the smallest Θ at which some class needs
    the neuron. The paper's baselines take the top p of every layer: "global" by the mean score over classes, "class"
    for each class, and all that some class takes.
    """
    if way == "all":
        return score.amax(1)
    if way == "theta":
        return -level.amin(1)
    table = score.mean(1, keepdim=True) if way == "global" else score
    place = torch.zeros(index.n)
    for own in layers_of(index):
        ranks = table[own].argsort(dim=0, stable=True).argsort(dim=0).float()  # [n, C or 1], 0 = least
        place[own] = (ranks.amax(1) + 1) / len(own)
    return place[index.group]


def masked(index: NeuronIndex, shapes: Shapes, keep: Tensor) -> float:
    """0–1: the share of parameters that read or write a neuron outside keep: bool[N]."""
    whole = left = 0
    for name, shape in shapes.items():
        ids = index.axes.get(name, (None,) * len(shape))
        sizes = [
            size if axis is None else round(size * float((keep[axis.clamp(min=0)] | (axis < 0)).float().mean()))
            for size, axis in zip(shape, ids, strict=True)
        ]
        whole += torch.Size(shape).numel()
        left += torch.Size(sizes).numel()
    return 1 - left / max(whole, 1)


def keep_at(index: NeuronIndex, shapes: Shapes, order: Tensor, rate: float) -> Tensor:
    """bool[N]: without the beginning of order: int64[k] (points) whose masked share comes nearest to rate (0–1).

    Raises:
        SelectionError: `rate` is no share.
    """
    if not 0 <= rate <= 1:
        raise SelectionError(f"A mask rate is a share from 0 to 1, this one is {rate}.", "Give 0.2 for 20 %.")
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        if masked(index, shapes, without(index, order[:middle])) <= rate:
            low = middle
        else:
            high = middle
    both = [without(index, order[:count]) for count in (low, high)]
    return min(both, key=lambda keep: abs(masked(index, shapes, keep) - rate))


def order_of(index: NeuronIndex, importance: Tensor) -> Tensor:
    """int64[k]: the points that may go, the least important first; the best of each layer stays."""
    points = index.point.nonzero()[:, 0]
    layers = index.layer_of[points].tolist()
    return points[torch.from_numpy(leaving(importance[points].double().numpy(), layers, index.fixed[points].numpy()))]


def without(index: NeuronIndex, points: Tensor) -> Tensor:
    """bool[N]: all but these points and what is coupled to them."""
    keep = torch.ones(index.n, dtype=torch.bool)
    keep[points] = False
    return index.close(keep)


def shuffled(index: NeuronIndex, members: Tensor, seed: int) -> Tensor:
    """bool[N]: as many neurons of every layer as members: bool[N] has, chosen by chance; the control of a slice."""
    generator = torch.Generator().manual_seed(seed)
    chosen = index.logits.clone()
    for own in layers_of(index):
        chosen[own] = members[own][torch.randperm(len(own), generator=generator)]
    return chosen[index.group] | index.logits
