"""Train a part of a network: which numbers may move, by neuron; nothing else moves, whatever the optimiser does.

Weight decay and momentum move weights whose gradient is zero, and normalisation moves its statistics without any
gradient. So what is held is put back after each step, and in a training batch held neurons are normalised by the
statistics that they had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from surgery.network.model import Model

Free = Mapping[str, Tensor]  # state_dict name -> bool of its shape: what may move
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def rows_of(model: Model, neurons: Tensor) -> dict[str, Tensor]:
    """What writes the neurons in `neurons: bool[N]`: incoming weights, biases, scales and statistics."""
    found = {}
    for name, tensor, axes, writes in _tensors(model):
        own = [a for a in ([writes] if writes is not None else range(len(axes))) if axes[a] is not None]
        mask = torch.full(tensor.shape, bool(own))
        for axis in own:
            mask &= _along(_member(axes[axis], neurons, outside=False), axis, tensor.dim())
        found[name] = mask
    return found


def not_within(model: Model, neurons: Tensor) -> dict[str, Tensor]:
    """All but what lies within `neurons: bool[N]`: weights from them to them, their biases, scales and statistics.

    The model's input, and tensors of no neuron, count as within. This is the freeze rule of NeuSemSlice's incremental
    task (arXiv 2407.20281) as we define it: what is within is held, all else may learn another task.
    """
    found = {}
    for name, tensor, axes, _ in _tensors(model):
        within = torch.ones(tensor.shape, dtype=torch.bool)
        for axis, ids in enumerate(axes):
            if ids is not None:
                within &= _along(_member(ids, neurons, outside=True), axis, tensor.dim())
        found[name] = ~within
    return found


def share_of(model: Model, free: Free) -> float:
    """0–1: the share of parameters that may move."""
    parameters = dict(model.module.named_parameters())
    return sum(int(free[name].sum()) for name in parameters) / max(sum(p.numel() for p in parameters.values()), 1)


@dataclass
class Held:
    """What must not move in a module that is being trained. The module is changed in place."""

    module: nn.Module
    free: Free

    def __post_init__(self) -> None:
        """Remember what is held, and spare parameters of which nothing moves their gradients."""
        state = self.module.state_dict()
        self.free = {name: mask.to(state[name].device) for name, mask in self.free.items()}
        self.before = {name: state[name].clone() for name, mask in self.free.items() if not bool(mask.all())}
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(bool(self.free[name].any()))

    def put_back(self) -> None:
        """After a step: everything held is bit for bit what it was."""
        state = self.module.state_dict()
        with torch.no_grad():
            for name, old in self.before.items():
                state[name].copy_(torch.where(self.free[name], state[name], old))

    @contextmanager
    def statistics(self) -> Iterator[None]:
        """Inside it, batch normalisation in training mode uses and moves the statistics of free neurons only."""
        changed = []
        for path, part in self.module.named_modules():
            free = self.free.get(f"{path}.running_mean")
            if isinstance(part, NORMS) and free is not None and part.training:
                if not bool(free.any()):
                    part.eval()
                elif not bool(free.all()):
                    part.forward = partial(_mixed, part, free)  # type: ignore[method-assign]
                    changed.append(part)
        try:
            yield
        finally:
            for part in changed:
                del part.forward


def _mixed(part: Any, free: Tensor, x: Tensor) -> Tensor:
    """Batch normalisation with the batch's statistics where `free: bool[channels]`, the running ones elsewhere."""
    others = [axis for axis in range(x.dim()) if axis != 1]
    var, mean = torch.var_mean(x, others, unbiased=False)
    with torch.no_grad():
        count = x.numel() / x.shape[1]
        share = part.momentum if part.momentum is not None else 0.1
        for buffer, value in ((part.running_mean, mean), (part.running_var, var * count / max(count - 1, 1))):
            buffer.copy_(torch.where(free, torch.lerp(buffer, value.detach(), share), buffer))
    mean, var = (torch.where(free, a, b) for a, b in ((mean, part.running_mean), (var, part.running_var)))
    scale = torch.rsqrt(var + part.eps) * (part.weight if part.affine else 1.0)
    shift = (part.bias if part.affine else 0.0) - mean * scale
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    return x * scale.reshape(shape) + shift.reshape(shape)


def _tensors(model: Model) -> Iterator[tuple[str, Tensor, tuple[Tensor | None, ...], int | None]]:
    """(name, tensor, ids per axis, the axis that writes neurons, for weights of layers)."""
    index = model.index
    assert index is not None
    for name, tensor in model.module.state_dict().items():
        yield name, tensor, index.axes.get(name, (None,) * tensor.dim()), index.writes(name)


def _member(ids: Tensor | None, neurons: Tensor, *, outside: bool) -> Tensor:
    """bool[k]: whether each position belongs to one of the neurons; outside: what holds of no neuron."""
    assert ids is not None
    return torch.where(ids >= 0, neurons[ids.clamp(min=0)], outside)


def _along(values: Tensor, axis: int, rank: int) -> Tensor:
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])
