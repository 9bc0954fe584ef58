"""How much the units of dense layers vary, and which vary enough to be worth their place (ODF2NNA, arXiv 2310.12560).

A unit whose output hardly varies tells the next layer next to nothing: it is a constant, and a constant is a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from surgery.network.index import NeuronIndex

Reference = Literal["mean", "max"]


def dense_units(index: NeuronIndex) -> Tensor:
    """bool[N]: hidden units of linear layers that can go on their own: neither outputs nor coupled to others."""
    found = torch.zeros(index.n, dtype=torch.bool)
    for layer in index.layers.values():
        if layer.kind == "linear":
            found[layer.rows] = True
    alone = torch.bincount(index.group, minlength=index.n)[index.group] == 1
    return found & alone & ~index.fixed


def spread_of(index: NeuronIndex, variance: Mapping[str, Tensor]) -> Tensor:
    """float64[N]: the standard deviation of each neuron's output as its first reader receives it; 0 where none reads.

    variance: layer -> float64[in], of what each reader receives.
    """
    found = torch.full((index.n,), -1.0, dtype=torch.float64)
    for name, layer in index.layers.items():
        if name not in variance:
            continue
        new = (layer.cols >= 0) & (found[layer.cols.clamp(min=0)] < 0)
        found[layer.cols[new]] = variance[name].to(found)[new].clamp(min=0)
    return found.clamp(min=0).sqrt()


def useful(index: NeuronIndex, spread: Tensor, epsilon: float, reference: Reference = "mean") -> Tensor:
    """bool[N]: what stays at a tolerance: v_u > ε · v̄, v̄ the mean (ours; or the max) of the units of u's layer.

    spread: float64[N], v. Only `dense_units` are judged, each layer by its own; ε = 0 keeps all of them. A layer of
    which nothing would stay is left out of the result entirely: ask `emptied`.
    """
    units = dense_units(index)
    keep = torch.ones(index.n, dtype=torch.bool)
    if epsilon <= 0:
        return keep
    for layer in index.layers.values():
        own = layer.rows[units[layer.rows]]
        if len(own):
            level = spread[own].mean() if reference == "mean" else spread[own].max()
            keep[own] = spread[own] > epsilon * level
    return keep


def emptied(index: NeuronIndex, keep: Tensor) -> list[str]:
    """The names of layers of which nothing would stay."""
    return [name for name, layer in index.layers.items() if not bool(keep[layer.rows].any())]
