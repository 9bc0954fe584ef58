"""Who feeds a neuron and whom it feeds: the strongest weights into and out of its coupled group.

The weight between two neurons is the root of the summed squares of all weights that one layer has from the one's input
positions to the other's rows (the kernel of a convolution); its sign is that of their sum. What a normalisation or a
pointwise step does in between is not in it, so weights are compared within one layer: `share` is of all that the layer
has into, or out of, the same neuron.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgery.network.index import Layer, NeuronIndex
from surgery.network.readers import layer_name

MOST = 8


@dataclass(frozen=True)
class Connection:
    """neuron: the other end, −1 = the model's input; layer: whose weight it is; weight: signed size; share: 0–1."""

    neuron: int
    layer: str
    weight: float
    share: float


def connections(
    module: nn.Module, index: NeuronIndex, neuron: int, most: int = MOST
) -> tuple[list[Connection], list[Connection]]:
    """(upstream, downstream): at most `most` each, those of largest share first; members of a group stand together."""
    group = int(index.group[neuron])
    upstream: list[Connection] = []
    downstream: list[Connection] = []
    for layer, size, total in tables(module, index):
        into, out = index.group[layer.rows] == group, _of(index, layer.cols) == group
        if bool(into.any()):
            upstream += _ranked(layer.name, size[into], total[into], _of(index, layer.cols), most)
        if bool(out.any()):
            downstream += _ranked(layer.name, size[:, out].T, total[:, out].T, index.group[layer.rows], most)
    upstream, downstream = (sorted(side, key=lambda one: -one.share)[:most] for side in (upstream, downstream))
    return upstream, downstream


def tables(module: nn.Module, index: NeuronIndex) -> Iterator[tuple[Layer, Tensor, Tensor]]:
    """(layer, size, sum) of every layer with a weight: float[out, in], over the kernel.

    Both are 0 between different groups of a grouped convolution.
    """
    for name, parameter in module.named_parameters():
        layer = index.layers.get(layer_name(name))
        if layer is None or parameter.dim() < 2:
            continue
        weight = (
            parameter.detach().float().flatten(2) if parameter.dim() > 2 else parameter.detach().float()[:, :, None]
        )
        first = index.axes[name][0]
        if first is not None and not torch.equal(first, layer.rows):  # a transposed convolution, or x @ W
            weight = weight.transpose(0, 1)
        yield layer, _whole(weight.square().sum(2).sqrt(), layer), _whole(weight.sum(2), layer)


def _whole(table: Tensor, layer: Layer) -> Tensor:
    """float[out, in] of the blocks on its diagonal, one under (transposed: beside) the other."""
    rows, cols = len(layer.rows), len(layer.cols)
    if table.shape == (rows, cols):
        return table
    beside = table.shape[0] < rows
    blocks = table.chunk(rows // table.shape[0], 1) if beside else table.chunk(cols // table.shape[1])
    whole: Tensor = torch.block_diag(*blocks)
    return whole


def _of(index: NeuronIndex, ids: Tensor) -> Tensor:
    """The group of each id, −1 for the input."""
    return torch.where(ids >= 0, index.group[ids.clamp(min=0)], -1)


def _ranked(layer: str, size: Tensor, total: Tensor, other: Tensor, most: int) -> list[Connection]:
    """The strongest other ends of rows [k, n] of one layer; other: int64[n], the group of each."""
    ends, place = other.unique(return_inverse=True)
    strength = torch.zeros(len(ends)).index_add_(0, place, size.square().sum(0)).sqrt()
    sign = torch.zeros(len(ends)).index_add_(0, place, total.sum(0)).sign()
    share = strength / strength.sum().clamp(min=1e-30)
    best = share.argsort(descending=True, stable=True)[:most].tolist()
    return [Connection(int(ends[i]), layer, float(strength[i] * (sign[i] or 1)), float(share[i])) for i in best]
