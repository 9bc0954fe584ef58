"""Let the neurons that stay do the work of those that go: each reader's weights take over what can be predicted.

A reader's inputs that go are predicted from those that stay by ridge regression on what both showed, and the prediction
is multiplied into the reader's own weights: z = W_K x_K + W_R x_R becomes (W_K + W_R A) x_K + W_R (μ_R − A μ_K). A
neuron that has a twin is thereby merged into it. What nobody can predict leaves its mean, as in `slicing.shifts`.
The closed form is ours; no paper of the product's asks for more than means.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from surgery.edit.inputs import Inputs, blocks
from surgery.network.index import Layer
from surgery.network.model import Model
from surgery.network.slicing import Means

TAUGHT = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # their weight is [out, in of one group, *kernel]
RIDGE = 1e-3  # of the mean variance: how much twins that differ in noise are kept from taking turns


def compensate(model: Model, keep: Tensor, seen: Inputs) -> tuple[Model, Means]:
    """A model of the same size whose kept neurons have taken over, and the means that the others then leave behind.

    keep: bool[N], closed under coupling. Hand both on: `shrink(changed, keep, means)`. Where the kernel reaches over a
    border, what is left behind is the average of what it really reads there, not a constant everywhere. Readers whose
    inputs were too many to observe together, that share their weight, or that are no linear or convolution, get means
    alone. The input model is untouched.
    """
    module = copy.deepcopy(model.module)
    means = {layer: mean.float() for layer, mean in seen.mean.items()}
    assert model.index is not None
    shared = _shared(module)
    with torch.no_grad():
        for name, layer in model.index.layers.items():
            stay = (layer.cols < 0) | keep[layer.cols.clamp(min=0)]
            owner = owner_of(module, layer)
            if name not in seen.covariance or bool(stay.all()) or owner is None or id(owner.weight) in shared:
                continue
            if owner.bias is None:
                owner.bias = nn.Parameter(owner.weight.new_zeros(len(layer.rows)))
            for columns, rows in blocks(owner, len(layer.cols), len(layer.rows)):
                own = stay[columns]
                if bool(own.any()) and not bool(own.all()):
                    taken = prediction(seen.covariance[name][columns, columns], own)  # [gone, stay]
                    taps = seen.taps[name][columns]
                    _take_over(owner, rows, own, taken, taps[~own] - taken @ taps[own])
                    means[name][columns] = 0.0
    return replace(model, module=module), means


def owner_of(module: nn.Module, layer: Layer) -> Any:
    """The module of a layer that can be taught: a linear or convolution with its weight laid out as usual."""
    owner = module.get_submodule(layer.name) if layer.shiftable else None
    return owner if isinstance(owner, TAUGHT) else None


def _shared(module: nn.Module) -> set[int]:
    """The ids of parameters that stand in more than one place."""
    places = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    return {one for one, count in places.items() if count > 1}


def prediction(covariance: Tensor, stay: Tensor) -> Tensor:
    """float64[gone, stay]: the ridge regression of the inputs that go on those that stay: bool[in]."""
    kept = covariance[stay][:, stay]
    scale = kept.diagonal().mean().clamp(min=1e-30)
    kept = kept + RIDGE * scale * torch.eye(len(kept), dtype=kept.dtype)
    taken: Tensor = torch.linalg.solve(kept, covariance[stay][:, ~stay]).T
    return taken


def _take_over(owner: Any, rows: slice, stay: Tensor, taken: Tensor, left: Tensor) -> None:
    """weight[rows, stay] += weight[rows, gone] · taken at every place of the kernel; the bias gets weight · left.

    A weight's second axis counts the inputs of one group, so `stay` indexes it as it is. left: float64[gone, k].
    """
    own = owner.weight[rows]
    gone = own[:, ~stay].double().flatten(2) if own.dim() > 2 else own[:, ~stay, None].double()  # [out, gone, k]
    changed = own.clone()
    changed[:, stay] += torch.einsum("ogk,gs->osk", gone, taken).reshape(own[:, stay].shape).to(own)
    owner.weight[rows] = changed
    owner.bias[rows] += torch.einsum("ogk,gk->o", gone, left).to(own)
