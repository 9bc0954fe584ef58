"""Make some outputs comparable with the others: a slope and a shift for each, folded into the layer that writes them.

Outputs that were trained apart from the others are right among themselves only. Platt scaling of each of them (Platt
1999, in the form of vector scaling, Guo et al., arXiv 1706.04599) on a few samples of every class puts them on the
scale of the others, which stay as they are.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.edit.grow import head_of
from surgery.network.model import Model

STEPS = 100
DECAY = 1e-3  # on slopes away from one and on shifts, so that classes that are told apart perfectly have an end


def affine(logits: Tensor, truth: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
    """Two float64[k], slope and shift of the outputs `moving: int64[k]`, of least cross-entropy over all outputs.

    logits: float[n, outputs]. truth: int64[n], the right outputs. Each class counts alike, however many samples it has.
    """
    logits = logits.double()
    slope, shift = (torch.full((len(moving),), v, dtype=torch.float64, requires_grad=True) for v in (1.0, 0.0))
    weight = 1.0 / torch.bincount(truth, minlength=logits.shape[1]).clamp(min=1).double()
    optimizer = torch.optim.LBFGS([slope, shift], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = F.cross_entropy(applied(logits, moving, slope, shift), truth, weight=weight)
        value = value + DECAY * ((slope - 1).square().mean() + shift.square().mean())
        value.backward()
        return value

    optimizer.step(loss)
    return slope.detach(), shift.detach()


def applied(logits: Tensor, moving: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """float[n, outputs]: the logits with those at `moving` scaled and shifted."""
    return logits.index_copy(1, moving, logits[:, moving] * slope + shift)


def folded(model: Model, moving: Tensor, slope: Tensor, shift: Tensor) -> Model:
    """A model whose outputs at `moving` are scaled and shifted by its own last layer.

    Raises:
        TraceError: the outputs are not written by one linear layer or convolution.
    """
    name, layer, index = head_of(model)
    module = copy.deepcopy(model.module)
    head: Any = module.get_submodule(name)
    with torch.no_grad():
        if head.bias is None:
            head.bias = nn.Parameter(head.weight.new_zeros(len(head.weight)))
        scale = slope.to(head.weight)
        head.weight[moving] *= scale.reshape(-1, *(1,) * (head.weight.dim() - 1))
        head.bias[moving] = head.bias[moving] * scale + shift.to(head.weight)
    index = replace(index, axes={**index.axes, f"{name}.bias": (layer.rows,)})
    return replace(model, module=module, index=index)
