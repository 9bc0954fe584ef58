"""Which neurons known pruners would take first, as one importance per neuron.

LAMP (Lee et al., arXiv 2010.07611), ERK (Evci et al., arXiv 1911.11134), Uniform+ (Gale et al., arXiv 1902.09574) and
global magnitude are defined per weight; a neuron's importance is the sum over the weights of its group (its own
filter, and those of all that go with it), as NeuSemSlice's restructuring (arXiv 2407.20281) needs whole neurons.
ERK and Uniform+ say how much of each layer stays: here a neuron leaves when its layer's share falls below its rank.

Letters: N neurons, n points of one layer (one per group of coupled neurons).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from surgery.analysis.slices import layers_of
from surgery.errors import ModelError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.network.readers import layer_name

Pruner = Literal["lamp", "global", "uniform+", "erk", "l2"]
PRUNERS: tuple[Pruner, ...] = ("lamp", "global", "uniform+", "erk", "l2")
LAST_LAYER = 0.2  # Uniform+: the share of the inputs of the last layer that stays


def importance(pruner: Pruner, model: Model) -> Tensor:
    """float64[N], more = leaves later; infinity = the pruner never takes it. Coupled neurons share one value.

    Raises:
        ModelError: the neurons of the network are not numbered.
    """
    index = model.index
    if index is None:
        raise ModelError(f"The neurons of this network are not numbered: {model.support.reason}.", "")
    if pruner == "lamp":
        return _over_groups(index, _filters(model, lamp))
    if pruner == "l2":
        return _over_groups(index, _filters(model, torch.square)).sqrt()
    size = _over_groups(index, _filters(model, torch.abs))
    if pruner == "global":
        return size
    if pruner == "uniform+":
        return _uniform_plus(index, size)
    return _by_share(index, size, {name: erk(shape) for name, shape in _shapes(model).items()})


def within_layers(index: NeuronIndex, importance: Tensor) -> Tensor:
    """float64[N]: the rank within the layer, 1 = its best: equal shares leave every layer."""
    return _by_share(index, importance, {})


def lamp(weight: Tensor) -> Tensor:
    """Each weight's square over the sum of squares of all in its layer that are no smaller (LAMP, eq. 4)."""
    square = weight.flatten().double().square()
    order = square.argsort()
    at_least = square[order].flip(0).cumsum(0).flip(0)
    score = torch.zeros_like(square)
    score[order] = square[order] / at_least.clamp(min=1e-300)
    return score.reshape(weight.shape)


def erk(shape: tuple[int, ...]) -> float:
    """The density of a layer before scaling: the sum of its weight's sizes over their product."""
    return sum(shape) / math.prod(shape)


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """layer -> the shape of its weight, without positions along which it does not reach (a linear's kernel)."""
    return {layer_name(name): tuple(p.shape) for name, p in model.module.named_parameters() if p.dim() > 1}


def _filters(model: Model, of: object) -> Tensor:
    """float64[N]: the sum of a function of the weights that write each neuron."""
    assert callable(of)
    assert model.index is not None
    total = torch.zeros(model.index.n, dtype=torch.float64)
    for name, weight in model.module.named_parameters():
        axis = model.index.writes(name)
        if axis is not None:
            values = of(weight.detach()).double().movedim(axis, 0).flatten(1).sum(1)
            total.index_add_(0, model.index.layers[layer_name(name)].rows, values)
    return total


def _over_groups(index: NeuronIndex, values: Tensor) -> Tensor:
    """float64[N]: the sum over each neuron's group; infinity for fixed neurons."""
    total = torch.zeros(index.n, dtype=torch.float64).index_add_(0, index.group, values)[index.group]
    return torch.where(index.fixed, torch.inf, total)


def _by_share(index: NeuronIndex, size: Tensor, density: dict[str, float]) -> Tensor:
    """float64[N]: density of the layer over the share of it that is at least as large."""
    names = list(index.layers)
    place = torch.full((index.n,), torch.inf, dtype=torch.float64)
    for own in layers_of(index):
        own = own[~index.fixed[own]]
        ranks = size[own].argsort(descending=True, stable=True).argsort().double() + 1  # 1 = largest
        layer = names[int(index.layer_of[own[0]])] if len(own) else ""
        place[own] = density.get(layer, 1.0) * len(own) / ranks
    return place[index.group]


def _uniform_plus(index: NeuronIndex, size: Tensor) -> Tensor:
    """Uniform, but the first convolution is never pruned and the last layer keeps LAST_LAYER of its inputs."""
    place = _by_share(index, size, {})
    first = next((layer for layer in index.layers.values() if layer.kind == "conv"), None)
    if first is not None:
        place = torch.where(torch.isin(index.group, index.group[first.rows]), torch.inf, place)
    last = list(index.layers.values())[-1]
    read = index.group[last.cols[last.cols >= 0]].unique()
    read = read[~index.fixed[read]]
    kept = read[size[read].argsort(descending=True, stable=True)[: math.ceil(LAST_LAYER * len(read))]]
    return torch.where(torch.isin(index.group, kept), torch.inf, place)
