"""What removing each neuron is expected to cost, when the others take over what they can: second order, by layers.

Removing neuron u makes an error in what each of its readers receives: what the neurons still there cannot predict of u.
With H = Σ_k r_k W_kᵀ diag(E g²) W_k (g the gradient at the reader's output; k the places of its kernel, each of which
reads no padding at a share r_k of positions) and P = C⁻¹ the
inverse covariance of its inputs, the loss rises by ½ H_uu ÷ P_uu, summed over readers. After each removal W takes over
and C loses a row, which changes H and P by one outer product each: so a whole order costs about as much as one matrix
inversion per neuron row. This is Optimal Brain Surgeon (Hassibi and Stork 1993) with a neuron in the place of a weight
and a diagonal Fisher information in the place of the Hessian; the form for coupled neurons is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from surgery.context import Context
from surgery.edit.compensate import RIDGE, owner_of
from surgery.edit.inputs import Inputs, blocks
from surgery.network.index import Layer, NeuronIndex
from surgery.network.model import Model

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class _Reader:
    """What one reader makes of its inputs. point: int64[in], who each input belongs to, −1 = nobody who may go.

    H and P are never rewritten: after t removals they are the first ones plus t outer products, of which only the
    columns and the diagonal that are asked for are computed.
    """

    def __init__(self, point: Tensor, weight: Tensor, variance: Tensor, covariance: Tensor | None) -> None:
        """weight: float64[out, in, k], scaled by the root of what each output matters; covariance: None = without
        taking over.
        """
        self.point = point.clone()
        self.count = 0  # of removals
        self.taught = covariance is not None
        if covariance is None:
            self.now = 0.5 * weight.square().sum((0, 2)) * variance  # float64[in], what each removal would cost now
            return
        ridge = RIDGE * covariance.diagonal().mean().clamp(min=1e-30)
        self.h = torch.einsum("ock,odk->cd", weight, weight)
        self.p = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype))
        self.own_h, self.own_p = self.h.diagonal().clone(), self.p.diagonal().clone()
        self.share, self.column = torch.zeros(2, *self.h.shape, dtype=torch.float64)  # [removal, in]
        self.pivot, self.own = torch.zeros(2, len(self.h), dtype=torch.float64)  # [removal]: P_cc, H_cc
        self._reckon()

    def remove(self, column: int) -> None:
        """Take one input away; the others take over."""
        self.point[column] = -1
        if not self.taught:
            return
        t = self.count
        share, before = self.share[:t], self.column[:t]
        there = share[:, column]
        p = self.p[column] - (self.pivot[:t] * there) @ share
        h = self.h[column] + (self.own[:t] * there - before[:, column]) @ share - there @ before
        pivot = p[column].clamp(min=1e-30)
        gone = p / pivot
        self.own_p -= p * gone
        self.own_h += h[column] * gone.square() - 2 * h * gone
        self.share[t], self.column[t], self.pivot[t], self.own[t] = gone, h, pivot, h[column]
        self.count = t + 1
        self._reckon()

    def _reckon(self) -> None:
        self.now = 0.5 * self.own_h.clamp(min=0) / self.own_p.clamp(min=1e-30)


def effects(model: Model, seen: Inputs, ctx: Context) -> Tensor:
    """float64[N]: the expected rise of the loss at which each neuron leaves, never falling within one set of readers.

    Neurons are removed one after the other from each set of points that share readers, the cheapest first, so a late
    neuron carries what has been handed to it. Members of a coupled group share one value; fixed neurons have infinity.
    """
    index = model.index
    assert index is not None
    found = torch.full((index.n,), torch.inf, dtype=torch.float64)
    readers = [reader for name in index.layers for reader in _readers(model, index, seen, name)]
    for own in _sets(readers):
        _leave(index, own, found, ctx)
    unseen = index.point & ~index.fixed & torch.isinf(found)
    found[unseen] = 0.0  # nobody reads them: nothing is lost
    found = found[index.group]
    return torch.where(index.fixed, torch.inf, found)


def _readers(model: Model, index: NeuronIndex, seen: Inputs, name: str) -> list[_Reader]:
    """The reader of a layer, or one for each group of a convolution; none when nobody may go or nothing was seen."""
    layer = index.layers[name]
    columns = torch.where(layer.cols >= 0, index.group[layer.cols.clamp(min=0)], -1)
    columns = torch.where((columns >= 0) & ~index.fixed[columns.clamp(min=0)], columns, -1)
    if name not in seen.weight or not bool((columns >= 0).any()):
        return []
    found = []
    for own, rows, weight in _weights(model, layer):
        together = index.group[layer.rows[rows]][:, None] == columns[own][None]  # a row that goes with its column
        scaled = weight * (seen.weight[name][rows].sqrt()[:, None] * ~together)[:, :, None] * seen.read[name].sqrt()
        if not bool(scaled.any()):
            continue  # depthwise: each output goes with its only input, so nothing is lost there
        taught = owner_of(model.module, layer) is not None and name in seen.covariance
        covariance = seen.covariance[name][own, own] if taught else None
        found.append(_Reader(columns[own], scaled, seen.variance[name][own], covariance))
    return found


def _weights(model: Model, layer: Layer) -> Iterator[tuple[slice, slice, Tensor]]:
    """(inputs, outputs, float64[out, in, k]) of each group of a reader, however its weight is laid out."""
    owner: Any = model.module.get_submodule(layer.name) if layer.shiftable else None
    weight = (model.module.get_parameter(layer.name) if owner is None else owner.weight).detach().double()
    transposed = isinstance(owner, TRANSPOSED) or weight.shape[0] != len(layer.rows)
    for columns, rows in blocks(owner, len(layer.cols), len(layer.rows)):
        own = weight[columns].transpose(0, 1) if transposed else weight[rows]
        yield columns, rows, own.reshape(own.shape[0], own.shape[1], -1)


def _sets(readers: list[_Reader]) -> list[list[_Reader]]:
    """Readers that share a neuron stand together."""
    sets: list[tuple[set[int], list[_Reader]]] = []
    for reader in readers:
        points = set(reader.point[reader.point >= 0].tolist())
        met = [one for one in sets if one[0] & points]
        sets = [one for one in sets if not one[0] & points]
        sets.append((points.union(*(p for p, _ in met)), [*(r for _, own in met for r in own), reader]))
    return [own for _, own in sets]


def _leave(index: NeuronIndex, readers: list[_Reader], found: Tensor, ctx: Context) -> None:
    """Let the neurons of one set of readers leave, the cheapest first; write what each costs into found: float64[N]."""
    points = torch.cat([reader.point[reader.point >= 0] for reader in readers]).unique()
    place = torch.full((index.n,), -1, dtype=torch.long)
    place[points] = torch.arange(len(points))
    left = torch.ones(len(points), dtype=torch.bool)
    highest = 0.0
    for _ in ctx.track(range(len(points)), "ranking neurons"):
        costs = torch.zeros(len(points), dtype=torch.float64)
        for reader in readers:
            own = reader.point >= 0
            costs.index_add_(0, place[reader.point[own]], reader.now[own])
        costs[~left] = torch.inf
        going = int(costs.argmin())
        highest = max(highest, float(costs[going]))
        found[points[going]] = highest
        left[going] = False
        for reader in readers:
            for column in (reader.point == points[going]).nonzero()[:, 0].tolist():
                reader.remove(column)
