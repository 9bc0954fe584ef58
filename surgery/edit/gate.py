"""Silence, scale or learn neurons where they are read: inside `gate`, each reader sees `x · value[cols]`.

Gating at the reader is exact against shrinking for every activation function (a sigmoid of zero is not zero), and the
gradient reaches `value`. With `means`, a neuron taken out leaves its mean behind as a shift of its readers' biases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from surgery.network.index import NeuronIndex
from surgery.network.readers import Readers
from surgery.network.slicing import Means, shifts


@contextmanager
def gate(module: nn.Module, index: NeuronIndex, value: Tensor, means: Means | None = None) -> Iterator[None]:
    """Inside it, `module` computes as if neuron u were multiplied by value[u] for all who read it.

    value: float[N] on any device, 1 = as it is, 0 = removed; may require gradients.
    means: float[in] per layer; what is missing, (1 − value) · mean, is added to the readers' outputs as one constant
        per output (see `slicing.shifts`). Layers that cannot hold a bias get none, in gate and shrink alike.
    """
    factors = {}
    for name, layer in index.layers.items():
        seen = value[layer.cols.clamp(min=0).to(value.device)]
        factors[name] = torch.where((layer.cols >= 0).to(value.device), seen, torch.ones_like(seen))
    added = shifts(module, index, value.cpu(), means) if means else {}

    def before(layer: str, x: Tensor, axis: int) -> Tensor:
        return x * _along(factors[layer].to(x), axis, x.dim())

    def after(layer: str, out: Tensor, axis: int) -> Tensor:
        return out + _along(added[layer].to(out), axis, out.dim()) if layer in added else out

    with Readers(module, before, after):
        yield


def _along(values: Tensor, axis: int, rank: int) -> Tensor:
    """Lay float[k] along `axis` of a tensor with `rank` axes."""
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])
