"""Weights of a learned number of bits: the quantiser, how large a network is by it, and where training begins.

After Self-Compressing Networks (arXiv 2301.13142): q(x, b, e) = 2^e · round(clip(2^−e x, −2^(b−1), 2^(b−1) − 1)) with
b ≥ 0 and e real, one of each for every output row, both learned together with the weights; rounding passes gradients
straight through. A row of no bits is always 0.

Letters: out = rows of a weight, in = the values of one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.network.packed import MOST, Packing


class _Round(torch.autograd.Function):
    """round(x) forward, the gradient as it comes backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """float of any shape."""
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Straight through."""
        return gradient


def quantize(x: Tensor, bits: Tensor, exponent: Tensor) -> Tensor:
    """q(x, b, e), row by row: x: float[out, …]; bits, exponent: float[out], bits at least 0.

    Gradients: to x where it is not clipped; to b through the bounds that clip it; to e through the scale.
    """
    shape = (-1, *[1] * (x.dim() - 1))
    b, scale = bits.clamp(min=0).view(shape), torch.exp2(_fine(exponent)).to(x.dtype).view(shape)
    low, high = -torch.exp2(b - 1), torch.exp2(b - 1) - 1
    rounded: Tensor = _Round.apply(torch.minimum(torch.maximum(x / scale, low), high))
    return scale * rounded


def _fine(exponent: Tensor) -> Tensor:
    """In float64, where the device has it, so that a power is the same however many are computed at once."""
    return exponent if exponent.device.type == "mps" else exponent.double()


def covering(x: Tensor, bits: Tensor) -> Tensor:
    """float[out]: the exponents at which the largest value of every row is the largest of its bits.

    x: float[out, …]; bits: float[out]. Rows of zeros get an exponent of −16.
    """
    largest = x.detach().reshape(len(x), -1).abs().amax(1)
    steps = (torch.exp2(bits - 1) - 1).clamp(min=0.5)
    return torch.log2((largest / steps).clamp(min=2.0**-16))


@dataclass(frozen=True)
class Weight:
    """One weight that can have few bits. name: of the state_dict; layer: of the index, "" for one that writes no
    neurons (an embedding). rows: int64[out], the neuron of each row, −1 for none. cols: int64[in positions], the neuron
    of each input position. times: values per pair of row and input position (h · w of a kernel).
    """

    name: str
    layer: str
    axis: int
    rows: Tensor
    cols: Tensor
    times: float


def weights_of(model: Model) -> list[Weight]:
    """The weights of linear layers, convolutions and attention projections that write neurons, and embeddings.

    Each tensor once; all that is one-dimensional (biases, normalisation) stays as it is.
    """
    index = model.index
    assert index is not None
    parameters = dict(model.module.named_parameters())
    found = []
    for name, parameter in parameters.items():
        axis = index.writes(name)
        layer = index.layers.get(name.removesuffix(".weight")) or index.layers.get(name)
        if parameter.dim() < 2:
            continue
        if axis is not None and layer is not None:
            inputs = max(1, len(layer.cols))
            times = parameter.numel() / (len(layer.rows) * inputs)
            found.append(Weight(name, layer.name, axis, layer.rows, layer.cols, times))
        elif isinstance(_owner(model.module, name), nn.Embedding):
            rows = torch.full((parameter.shape[0],), -1)
            found.append(Weight(name, "", 0, rows, torch.full((parameter.shape[1],), -1), 1.0))
    return found


def _owner(module: nn.Module, name: str) -> nn.Module:
    return module.get_submodule(name.rpartition(".")[0])


def size_of_rows(weights: Mapping[str, tuple[int, Tensor]]) -> Tensor:
    """Q = Σ_l I·h·w·Σ_i b_i ÷ N, the simple form: the average bits per weight.

    weights: name -> (values of one row, float[out] bits). N: all values.
    """
    total = sum(each * len(bits) for each, bits in weights.values())
    return torch.stack([each * bits.clamp(min=0).sum() for each, bits in weights.values()]).sum() / total


def size_of_pairs(index: NeuronIndex, weights: list[Weight], bits: Mapping[str, Tensor]) -> Tensor:
    """Q = (1/N) Σ_l h·w·[Σ_j 1(b′_j > 0) · Σ_i b_i + Σ_i 1(b_i > 0) · Σ_j b′_j], b′ the bits of the layer before.

    A row pays for the inputs that are left, and an input for the rows that read it. bits: name -> float[out]. An input
    position that no weight writes (the model's input) is always there and has no bits. Where several weights write one
    neuron (a residual sum), b′ is their mean. N: all values at the start.
    """
    device = next(iter(bits.values())).device
    written = torch.zeros(index.n + 1, device=device)
    counts = torch.zeros(index.n + 1, device=device)
    for weight in weights:
        rows = torch.where(weight.rows >= 0, weight.rows, index.n).to(device)
        written = written.index_add(0, rows, bits[weight.name].clamp(min=0))
        counts = counts.index_add(0, rows, torch.ones(len(rows), device=device))
    mean = written[:-1] / counts[:-1].clamp(min=1)
    total, terms = 0.0, []
    for weight in weights:
        own = bits[weight.name].clamp(min=0)
        cols = weight.cols.to(device)
        known = (cols >= 0) & (counts[:-1][cols.clamp(min=0)] > 0)
        before = torch.where(known, mean[cols.clamp(min=0)], 0.0)
        there = torch.where(known, (before > 0).float(), 1.0)
        terms.append(weight.times * (there.sum() * own.sum() + (own > 0).float().sum() * before.sum()))
        total += weight.times * len(weight.rows) * len(weight.cols)
    return torch.stack(terms).sum() / total


def needed(index: NeuronIndex, weights: list[Weight], bits: Mapping[str, Tensor]) -> Tensor:
    """bool[N], on the CPU: the neurons of which some row has bits, those coupled to them, and those that must stay."""
    alive = torch.zeros(index.n, dtype=torch.bool)
    written = torch.zeros(index.n, dtype=torch.bool)
    for weight in weights:
        rows = weight.rows[weight.rows >= 0]
        written[rows] = True
        alive[rows[(bits[weight.name].detach() > 0).cpu()[weight.rows >= 0]]] = True
    groups = torch.zeros(index.n, dtype=torch.bool)
    groups[index.group[alive | ~written]] = True
    keep = groups[index.group] | index.fixed
    for layer in index.layers.values():
        if not bool(keep[layer.rows].any()):
            keep[index.group == index.group[layer.rows[0]]] = True  # a layer cannot be empty
    return keep


def size_left(index: NeuronIndex, weights: list[Weight], bits: Mapping[str, Tensor]) -> float:
    """Bits that are stored once the neurons without bits have gone, per weight of the start.

    A row pays for those of its inputs that are left. bits: name -> float[out].
    """
    keep = torch.cat([needed(index, weights, bits), torch.ones(1, dtype=torch.bool)])  # the last: no neuron, stays
    total, left = 0.0, 0.0
    for weight in weights:
        inputs = int(keep[weight.cols].sum()) if len(weight.cols) else 1
        left += weight.times * inputs * float(bits[weight.name].detach().clamp(min=0).sum())
        total += weight.times * len(weight.rows) * max(1, len(weight.cols))
    return left / total


def settled(bits: Tensor, exponent: Tensor, axis: int) -> Packing:
    """What is stored: bits rounded up to whole numbers, at most 16; exponents as float16 holds them."""
    return Packing(bits.detach().clamp(min=0).ceil().clamp(max=MOST).long(), exponent.detach().half().float(), axis)


def on_grid(weight: Tensor, packing: Packing) -> Tensor:
    """A weight with every value where its packing can hold it."""
    rows = weight.detach().movedim(packing.axis, 0)
    return quantize(rows, packing.bits.float(), packing.exponent).movedim(0, packing.axis).contiguous()
