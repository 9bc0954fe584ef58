"""Twins: neurons that tell their readers the same on all samples, up to scale and offset."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from surgery.edit.inputs import Inputs
from surgery.network.index import Layer, NeuronIndex

ALIKE = 0.99  # of the correlation's absolute value


def twins(index: NeuronIndex, seen: Inputs, least: float = ALIKE) -> Tensor:
    """int64[N], the cut that merges twins: own id = stays, another's id = that one takes over (see `compensate`).

    Two neurons are twins when all their readers receive both and find them correlated by at least `least`, up to sign.
    Of several twins the one with the most stays. Coupled neurons are judged and merged together; fixed ones stay.
    """
    matched: Counter[tuple[int, int]] = Counter()
    columns: Counter[int] = Counter()
    for name, layer in index.layers.items():
        points = torch.where(layer.cols >= 0, index.group[layer.cols.clamp(min=0)], -1)
        columns.update(points[points >= 0].tolist())
        if name in seen.covariance:
            matched.update(_pairs(layer, points, seen.covariance[name], least))
    alike: dict[int, set[int]] = {}
    for (a, b), count in matched.items():
        if count == columns[a] == columns[b]:
            alike.setdefault(a, set()).add(b)
            alike.setdefault(b, set()).add(a)
    cut = torch.arange(index.n)
    for leader in sorted(alike, key=lambda one: (-len(alike[one]), one)):
        if cut[leader] == leader:
            for other in alike[leader]:
                if cut[other] == other and not index.fixed[other] and not bool((cut == other).sum() > 1):
                    cut[other] = leader
    return torch.where(cut[index.group] == index.group, torch.arange(index.n), cut[index.group])


def _pairs(layer: Layer, points: Tensor, covariance: Tensor, least: float) -> list[tuple[int, int]]:
    """(smaller, larger point) once for every two columns, each the k-th of its point, that correlate."""
    spread = covariance.diagonal().clamp(min=0).sqrt()
    alive = (points >= 0) & (spread > 1e-8 * spread.max())
    correlation = covariance / torch.outer(spread, spread).clamp(min=1e-300)
    turn = torch.zeros(len(layer.cols), dtype=torch.long)
    met: Counter[int] = Counter()
    for place, point in enumerate(points.tolist()):
        turn[place] = met[point]
        met[point] += 1
    same = (correlation.abs() >= least) & (turn[:, None] == turn[None]) & alive[:, None] & alive[None]
    found = same.triu(1).nonzero()
    return [
        (min(a, b), max(a, b))
        for a, b in zip(points[found[:, 0]].tolist(), points[found[:, 1]].tolist(), strict=True)
        if a != b
    ]
