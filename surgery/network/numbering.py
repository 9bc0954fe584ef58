"""Who goes with whom: ids, and what tracing learns about them, solved into groups at the end.

An *id tensor* has an activation's own shape and says which neuron each element belongs to (−1: none). It is kept
narrow: an axis along which it does not vary has stride 0. Ids are given out in order of execution; *slots* are virtual
ids for the elements of bare parameters and disappear when the numbering is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor


def squash(ids: Tensor) -> Tensor:
    """Cut every axis along which `ids` does not vary down to size 1."""
    for axis in range(ids.dim()):
        if ids.shape[axis] > 1:
            first = ids.narrow(axis, 0, 1)
            if ids.stride(axis) == 0 or bool((ids == first).all()):
                ids = first
    return ids


def varying(ids: Tensor) -> list[int]:
    """The axes along which `ids` varies."""
    return [axis for axis, size in enumerate(squash(ids).shape) if size > 1]


def pairs(a: Tensor, b: Tensor) -> Tensor:
    """int64[k, 2]: the distinct pairs of two equally shaped id tensors where both are ids."""
    a, b = torch.broadcast_tensors(a, b)
    both = (a >= 0) & (b >= 0) & (a != b)
    stacked = torch.stack([a[both], b[both]])
    base = int(stacked.max()) + 1 if stacked.numel() else 1
    packed: Tensor = torch.unique(stacked[0] * base + stacked[1])  # one int64 per pair: unique(dim=1) is slow
    return torch.stack([packed // base, packed % base], dim=1)


def real(ids: Tensor) -> Tensor:
    """int64[k]: the distinct ids in `ids`, without −1."""
    found: Tensor = torch.unique(squash(ids))
    return found[found >= 0]


Rule = Callable[[Tensor], "tuple[list[Tensor], Tensor | None]"]


@dataclass
class Numbering:
    """Collects ids, unions, fixes and late rules while a network runs; `solve` turns them into groups."""

    count: int = 0
    slots: list[tuple[int, int]] = field(default_factory=list)  # ranges of virtual ids
    edges: list[Tensor] = field(default_factory=list)
    fixes: list[tuple[Tensor, str]] = field(default_factory=list)
    lost: list[tuple[Tensor, str]] = field(default_factory=list)
    late: list[tuple[Rule, Tensor, str, bool]] = field(default_factory=list)

    def new(self, size: int, slot: bool = False) -> Tensor:
        """int64[size]: fresh ids."""
        start, self.count = self.count, self.count + size
        if slot:
            self.slots.append((start, self.count))
        return torch.arange(start, self.count)

    def unite(self, a: Tensor, b: Tensor) -> None:
        """What stands at the same place of two broadcastable id tensors goes together."""
        found = pairs(squash(a), squash(b))
        if len(found):
            self.edges.append(found)

    def unite_along(self, ids: Tensor, axes: Sequence[int]) -> None:
        """Everything along `axes` goes together."""
        for edge in along(ids, axes):
            self.edges.append(edge)

    def unite_all(self, ids: Tensor) -> None:
        """Everything in `ids` goes together."""
        found = real(ids)
        if len(found) > 1:
            self.edges.append(torch.stack([found[:-1], found[1:]], dim=1))

    def fix(self, ids: Tensor, reason: str) -> None:
        """Nothing in `ids` may be removed."""
        found = real(ids)
        if len(found):
            self.fixes.append((found, reason))

    def lose(self, ids: Tensor, reason: str) -> None:
        """Fix `ids`: their values go on where no id goes along, so a gate at the next layers cannot reach them."""
        self.fix(ids, reason)
        if len(found := real(ids)):
            self.lost.append((found, reason))

    def later(self, rule: Rule, ids: Tensor, reason: str, *, lost: bool = False) -> None:
        """Apply `rule` to the final roots of `ids`: its unions are added, what it returns besides is fixed or lost."""
        self.late.append((rule, squash(ids), reason, lost))

    def roots(self) -> Tensor:
        """int64[count]: one number per set of ids that go together."""
        edges = torch.cat(self.edges).numpy() if self.edges else np.zeros((0, 2), dtype=np.int64)
        graph = coo_matrix((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), (self.count, self.count))
        return torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))

    def solve(self) -> Tensor:
        """Repeat the late rules until nothing changes; return the roots."""
        roots = self.roots()
        while True:
            before = int(roots.max()) + 1 if len(roots) else 0
            for rule, ids, reason, lost in self.late:
                edges, fixed = rule(rooted(roots, ids))
                first = first_of(roots)
                self.edges.extend(first[edge] for edge in edges)
                if fixed is not None:
                    (self.lose if lost else self.fix)(first[fixed], reason)
                if edges:
                    roots = self.roots()
            if (int(roots.max()) + 1 if len(roots) else 0) == before:
                return roots


def rooted(roots: Tensor, ids: Tensor) -> Tensor:
    """Replace ids by their roots, −1 stays."""
    return torch.where(ids >= 0, roots[ids.clamp(min=0)], ids) if len(roots) else ids


def first_of(roots: Tensor) -> Tensor:
    """int64[roots]: the smallest id of each set."""
    count = int(roots.max()) + 1 if len(roots) else 0
    first = torch.full((count,), len(roots), dtype=torch.long)
    return first.scatter_reduce(0, roots, torch.arange(len(roots)), "amin")


def along(ids: Tensor, axes: Sequence[int]) -> list[Tensor]:
    """The unions that make `ids` constant along `axes`."""
    found = []
    for axis in axes:
        ids = squash(ids)
        if ids.shape[axis] > 1:
            found.append(pairs(ids.narrow(axis, 0, 1), ids))
            ids = ids.amax(axis, keepdim=True)
    return [edge for edge in found if len(edge)]


def box(ids: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """Late rule 8: roots may vary along one axis only, else unite over all but the longest."""
    axes = varying(ids)
    if len(axes) < 2:
        return [], None
    longest = max(axes, key=lambda axis: ids.shape[axis])
    return along(ids, [axis for axis in axes if axis != longest]), None


def reduced(axes: Sequence[int]) -> Rule:
    """Late rule 6: if another axis still tells neurons apart unite along the reduced ones, else fix."""

    def rule(ids: Tensor) -> tuple[list[Tensor], Tensor | None]:
        vary = varying(ids)
        inside = [axis for axis in vary if axis in axes]
        if not inside:
            return [], None
        if len(inside) < len(vary):
            return along(ids, inside), None
        return [], real(ids)

    return rule


def apart(axes: Sequence[int]) -> Rule:
    """Late rule 2 for constants: neurons that are told apart along `axes` stay."""

    def rule(ids: Tensor) -> tuple[list[Tensor], Tensor | None]:
        return [], real(ids) if any(axis in axes for axis in varying(ids)) else None

    return rule
