"""How large a network would be with some of its neurons: parameters and multiply-accumulates as sums over tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.network.readers import layer_name


@dataclass(frozen=True)
class Sizes:
    """What any keep of a network comes to.

    shapes: parameter -> its shape, a tied tensor once. positions: layer -> how often its weight is used per sample.
    Products without a weight (attention scores) have no part in the multiply-accumulates.
    """

    index: NeuronIndex
    shapes: Mapping[str, tuple[int, ...]]
    positions: Mapping[str, int]

    @classmethod
    def of(cls, model: Model, positions: Mapping[str, int]) -> Sizes:
        """positions: of `edit.inputs.Inputs`."""
        assert model.index is not None
        return cls(model.index, {n: tuple(p.shape) for n, p in model.module.named_parameters()}, positions)

    def count(self, keep: Tensor) -> tuple[float, float]:
        """(parameters, multiply-accumulates) with only keep: bool[N]."""
        parameters = macs = 0.0
        for name, shape in self.shapes.items():
            left = float(torch.Size(self._left(name, shape, keep)).numel())
            parameters += left
            macs += left * self._times(name)
        return parameters, macs

    def saved_by(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Two float64[N]: parameters and multiply-accumulates that go with each neuron and all coupled to it, to first
        order at keep: bool[N].
        """
        parameters, macs = torch.zeros(2, self.index.n, dtype=torch.float64)
        for name, shape in self.shapes.items():
            sizes = self._left(name, shape, keep)
            for axis, size in zip(self._axes(name, shape), sizes, strict=True):
                if axis is None or not size:
                    continue
                own = axis[(axis >= 0) & keep[axis.clamp(min=0)]]
                share = torch.full((len(own),), torch.Size(sizes).numel() / size, dtype=torch.float64)
                parameters.index_add_(0, self.index.group[own], share)
                macs.index_add_(0, self.index.group[own], share * self._times(name))
        return parameters[self.index.group], macs[self.index.group]

    def _times(self, name: str) -> int:
        """How often a parameter is multiplied per sample."""
        return self.positions.get(layer_name(name), 0)

    def _axes(self, name: str, shape: tuple[int, ...]) -> tuple[Tensor | None, ...]:
        return self.index.axes.get(name, (None,) * len(shape))

    def _left(self, name: str, shape: tuple[int, ...], keep: Tensor) -> list[int]:
        return [
            size if axis is None else int((keep[axis.clamp(min=0)] | (axis < 0)).sum())
            for size, axis in zip(shape, self._axes(name, shape), strict=True)
        ]
