"""Which neurons stay when a network has to come down to a size: the least worth per saving goes first.

Two limits are one: each neuron's worth is divided by a mixture of the parameters and the multiply-accumulates that go
with it, and the mixture is bisected until both are met (Lagrange's multipliers of the relaxed knapsack).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.edit.size import Sizes
from surgery.errors import SelectionError

_HALVINGS = 30  # of the mixture: far below one neuron


@dataclass(frozen=True)
class Budget:
    """Counts to come down to; None = no limit. Parameters are met as closely as whole neurons allow."""

    parameters: float
    macs: float | None = None


def fit(sizes: Sizes, worth: Tensor, budget: Budget) -> Tensor:
    """bool[N]: what stays, each neuron's worth taken per parameter and multiply-accumulate that it costs.

    worth: float64[N], infinity = must stay. The most worthy of each layer stays.

    Raises:
        SelectionError: the size cannot be reached; says how small it can get.
    """
    whole = torch.ones(sizes.index.n, dtype=torch.bool)
    all_parameters, all_macs = sizes.count(whole)
    parameters, macs = sizes.saved_by(whole)
    floor = _floor(sizes, worth)

    def keep(mixture: float) -> Tensor:
        """In the order of one mixture: 1 = parameters alone, 0 = products alone, below = parameters are spared."""
        cost = mixture * parameters / all_parameters + (1 - abs(mixture)) * macs / max(all_macs, 1)
        per_cost = torch.where((cost > 0) & ~floor, worth / cost.clamp(min=1e-300), torch.inf)
        return _prefix(sizes, per_cost, Budget(budget.parameters) if mixture == 1.0 else Budget(torch.inf, budget.macs))

    found = keep(1.0)
    if budget.macs is None or sizes.count(found)[1] <= budget.macs:
        return found
    low, high = -1.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if sizes.count(keep(middle))[0] <= budget.parameters:
            high = middle
        else:
            low = middle
    return keep(high)


def in_order(sizes: Sizes, importance: Tensor, budget: Budget, *, at_least: bool = True) -> Tensor:
    """bool[N]: what stays when neurons leave in the order of importance: float64[N] alone, as pruners do it.

    at_least: the budget has to be met; else all go that may.

    Raises:
        SelectionError: the size cannot be reached.
    """
    return _prefix(sizes, torch.where(_floor(sizes, importance), torch.inf, importance), budget, at_least)


def _floor(sizes: Sizes, worth: Tensor) -> Tensor:
    """bool[N]: fixed neurons, and the most worthy of every layer, with all coupled to it."""
    index = sizes.index
    stay = index.fixed.clone()
    for layer in index.layers.values():
        stay[layer.rows[worth[layer.rows].argmax()]] = True
    together = torch.zeros_like(stay)
    together[index.group[stay]] = True
    return together[index.group]


def _prefix(sizes: Sizes, order: Tensor, budget: Budget, at_least: bool = True) -> Tensor:
    """bool[N]: without the shortest beginning of an order: float64[N] that meets the budget; infinity never leaves."""
    index = sizes.index
    points = (index.point & ~index.fixed & torch.isfinite(order)).nonzero()[:, 0]
    points = points[order[points].argsort(stable=True)]

    def without(count: int) -> Tensor:
        keep = torch.ones(index.n, dtype=torch.bool)
        keep[points[:count]] = False
        return index.close(keep)

    def met(count: int) -> bool:
        parameters, macs = sizes.count(without(count))
        return parameters <= budget.parameters and (budget.macs is None or macs <= budget.macs)

    low, high = 0, len(points)
    if not met(high):
        if not at_least:
            return without(high)
        smallest, products = sizes.count(without(high))
        raise SelectionError(
            f"The network cannot get that small: with what must stay it has {smallest:,.0f} parameters and "
            f"{products:,.0f} multiply-accumulates.",
            "Choose a larger size, or protect fewer neurons.",
        )
    while low < high:
        middle = (low + high) // 2
        if met(middle):
            high = middle
        else:
            low = middle + 1
    return without(high)
