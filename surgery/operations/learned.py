"""Modules learned by gradients: a mask for each class and a head that scores, trained to compete with one another.

GradSplitter (arXiv 2311.04438): a real number p for each neuron of each module, on where p > 0, learned straight
through the step. `from_ones` starts with every neuron on and follows the paper's schedule in cycles. `from_criticality`
is ours: it starts where NeuSemSlice's ranking of what each class needs can already do without, with linear heads.

Deviations: the masks act where neurons are read, what is off leaves its mean, the first layers stay whole, the most
wanted neuron of every layer stays, rates are scaled to a few epochs, and the pressure rises and falls with what may
still be lost.

Letters: K classes and modules, N neurons, b samples of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from surgery.analysis.criticality import taylor
from surgery.analysis.masking import order_of, without
from surgery.analysis.scan import scan
from surgery.edit.heads import HIDDEN, plain, scores, teach
from surgery.edit.straight import through
from surgery.network.composed import Head
from surgery.operations.masked import Masked

if TYPE_CHECKING:
    from surgery.operations.division import Division

MASK_EPOCHS, HEAD_EPOCHS = 5, 2  # of a cycle
FIRST_EPOCHS, FIRST_RATE = 5, 0.01  # of the heads, before the first cycle
HEAD_RATE = 0.001
SCANNED = 2_000  # training samples for the scores
TRIED = 1_500  # training samples that heads are taught on while looking for the threshold
TRIALS = 6  # halvings of the threshold
WHOLE, FRONT = 0.9, 1 / 3  # the first layers of which modules have so much stay whole, up to a share of all neurons
TURN = 2.0  # what the pressure is multiplied by after an epoch within the tolerance, and divided by after another
LEAST = 1e-3  # p of a neuron that must stay


def from_criticality(work: Division) -> None:
    """Start from each class's most critical neurons, as few as the tolerance allows, and learn on from there."""
    orders = criticality_orders(work)
    share, heads = _threshold(work, orders)
    keep = keep_of(work, orders, share)
    free = work.removable & ~front(work, keep)
    p = torch.ones(len(orders), work.index.n)
    for own, order in zip(p, orders, strict=True):
        own[order] = torch.linspace(0, 1, len(order)) - (1 - share) + 0.5 / max(len(order), 1)
    _learn(work, p, free, heads)


def from_ones(work: Division) -> None:
    """Start with all neurons on: heads alone, then cycles of masks with heads and of heads alone."""
    layers = int(work.plan.front * len(work.index.layers))
    free = work.removable & ~_of_first_layers(work, layers)
    generator = torch.Generator().manual_seed(work.ctx.seed)
    heads = []
    for _ in work.classes:
        head = Head(len(work.classes), HIDDEN)
        for parameter in head.parameters():
            bound = 1 / parameter.shape[-1] ** 0.5
            torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
        heads.append(head)
    _learn(work, torch.ones(len(work.classes), work.index.n), free, heads, first=True)


def most_critical(work: Division, share: float, samples: int) -> tuple[Tensor, list[Head]]:
    """bool[K, N], this share (0–1) of neurons that each class needs most, and heads taught on so many samples."""
    keep = keep_of(work, criticality_orders(work), share)
    train = work.masked(work.chosen("train", samples), work.removable)
    heads = _plain(work)
    outputs = train.outputs(keep, "computing what heads see")
    teach(heads, outputs, train.truth, work.ctx, epochs=HEAD_EPOCHS, rate=FIRST_RATE)
    return keep, heads


def criticality_orders(work: Division) -> list[Tensor]:
    """For each class int64[k], the points that may go, the least critical first."""
    seen = scan(work.model, work.data, work.ctx, limit=SCANNED)
    score = taylor(work.model, work.data, seen, work.ctx, limit=SCANNED)
    place = {output: column for column, output in enumerate(work.model.outputs_of(seen.classes).tolist())}
    return [order_of(work.index, score[:, place[output]]) for output in range(len(work.classes))]


def keep_of(work: Division, orders: list[Tensor], share: float) -> Tensor:
    """bool[K, N]: each class's most critical neurons, this share (0–1) of those that may go."""
    return torch.stack([without(work.index, order[: round((1 - share) * len(order))]) for order in orders])


def front(work: Division, keep: Tensor) -> Tensor:
    """bool[N]: neurons of the first layers that modules have nearly whole, as long as most can still be learned."""
    found = _of_first_layers(work, 0)
    for number, layer in enumerate(work.index.layers.values()):
        longer = _of_first_layers(work, number + 1)
        too_many = float((longer & work.points).sum()) > FRONT * float(work.points.sum())
        if too_many or float(keep[:, layer.rows].double().mean()) < WHOLE:
            break
        found = longer
    return found


def _of_first_layers(work: Division, count: int) -> Tensor:
    """bool[N]: the neurons of the first layers, and all that are coupled to them."""
    first = work.index.layer_of < count
    together = torch.zeros_like(first)
    together[work.index.group[first]] = True
    return together[work.index.group]


def _threshold(work: Division, orders: list[Tensor]) -> tuple[float, list[Head]]:
    """The smallest share of neurons with which all modules together stay within the tolerance, and their heads."""
    free = work.removable
    train = work.masked(work.chosen("train", min(TRIED, work.plan.samples)), free)
    judged = work.masked(work.judged, free)
    low, high, heads = 0.0, 1.0, _plain(work)
    for _ in range(TRIALS):
        share = (low + high) / 2
        keep = keep_of(work, orders, share)
        tried = _plain(work)
        teach(
            tried, train.outputs(keep, "trying a threshold"), train.truth, work.ctx, epochs=HEAD_EPOCHS, rate=FIRST_RATE
        )
        outputs = judged.outputs(keep, "trying a threshold")
        if work.within(work.add(f"{100 * share:.0f} % most critical", keep, tried, outputs)):
            high, heads = share, tried
        else:
            low = share
    if high == 1.0:
        keep = keep_of(work, orders, 1.0)
        work.add("all neurons", keep, heads, judged.outputs(keep, "trying a threshold"))
    return high, heads


def _plain(work: Division) -> list[Head]:
    return [plain(len(work.classes), k).to(work.ctx.device) for k in range(len(work.classes))]


def _learn(work: Division, p: Tensor, free: Tensor, heads: list[Head], *, first: bool = False) -> None:
    """Cycles of masks with heads and of heads alone; every epoch is a step to choose from."""
    if not bool(free.any()):
        return
    device, plan = work.ctx.device, work.plan
    train = work.masked(work.chosen("train", plan.samples), free)
    judged = work.masked(work.judged, free)
    learner = Learner(work, train, p.to(device), free, [head.to(device) for head in heads])
    if first:
        learner.heads_alone(FIRST_EPOCHS, FIRST_RATE)
        keep = learner.keep()
        work.add("heads alone", keep, learner.heads, judged.outputs(keep, "validating"))
    for cycle in range(plan.cycles):
        for epoch in range(MASK_EPOCHS):
            learner.masks(f"learning masks, cycle {cycle + 1} of {plan.cycles}, epoch {epoch + 1}")
            keep = learner.keep()
            outputs = judged.outputs(keep, "validating")
            step = work.add(f"cycle {cycle + 1}, masks {epoch + 1}", keep, learner.heads, outputs)
            learner.pressure *= TURN if work.within(step) else 1 / TURN
        learner.heads_alone(HEAD_EPOCHS, HEAD_RATE)
        work.add(f"cycle {cycle + 1}, heads", keep, learner.heads, judged.outputs(keep, "validating"))


class Learner:
    """K masks p: float[K, N] (a group's at its point) and K heads, and the steps that improve them."""

    def __init__(self, work: Division, train: Masked, p: Tensor, free: Tensor, heads: list[Head]) -> None:
        self.work, self.train, self.heads = work, train, heads
        self.index, self.ctx = work.index, work.ctx
        self.p = p.requires_grad_()
        self.free = free.to(p.device)
        self.group = self.index.group.to(p.device)
        self.counted = (free & self.index.point).to(p.device)
        own = [self.index.group[layer.rows].unique() for layer in self.index.layers.values() if free[layer.rows].all()]
        self.layers = [points.to(p.device) for points in own]
        self.random = np.random.default_rng(self.ctx.seed)
        weights = [parameter for head in heads for parameter in head.parameters()]
        self.pressure = work.plan.pressure
        self.optimizer = torch.optim.Adam(
            [{"params": [self.p], "lr": work.plan.rate}, {"params": weights, "lr": HEAD_RATE}]
        )

    def values(self) -> Tensor:
        """float[K, N]: 1 = on, 0 = off."""
        on = through(self.p)[:, self.group]
        return torch.where(self.free, on, torch.ones_like(on))

    def keep(self) -> Tensor:
        """bool[K, N]: what is on."""
        return self.work.closed(self.values().detach().cpu() > 0)

    def loss(self, values: Tensor, batch: int) -> Tensor:
        """Cross-entropy over the scores of all modules, and the pressure times the mean of all masks."""
        outputs = torch.stack([self.train.under(batch, own, learning=True) for own in values])
        found = F.cross_entropy(scores(self.heads, outputs), self.train.truths(batch))
        return found + self.pressure * values[:, self.counted].mean()

    def masks(self, stage: str) -> None:
        """One epoch of masks and heads."""
        order = self.random.permutation(len(self.train.ids)).tolist()
        for batch in self.ctx.track(order, stage):
            loss = self.loss(self.values(), batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self._hold()
        self.ctx.point(loss=float(loss.detach()))

    def heads_alone(self, epochs: int, rate: float) -> None:
        """Heads on outputs that are computed once."""
        outputs = self.train.outputs(self.values().detach(), "computing what heads see")
        teach(self.heads, outputs, self.train.truth, self.ctx, epochs=epochs, rate=rate)

    def _hold(self) -> None:
        """The most wanted neuron of every layer stays on."""
        with torch.no_grad():
            for points in self.layers:
                highest, place = self.p[:, points].max(1)
                rows = (highest <= 0).nonzero()[:, 0]
                self.p[rows, points[place[rows]]] = LEAST
