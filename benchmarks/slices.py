"""Do semantic slicers keep more accuracy than the paper's baselines when equally many parameters are masked?

All slicers mask neurons for good, leave means behind and retrain nothing. Ours: the threshold Θ per class and layer
(union over classes), and the ranking over all layers. The paper's baselines: the top p of every layer by the mean over
classes (global), and for each class, united (category-wise). Every slicer takes whichever of the five scores serves it
best on validation data at that rate; accuracy is then read on test. The control masks random neurons.

A second table shows what each Θ masks and keeps, with zeros and with means, as found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bases import base, cifar10
from benchmarks.rows import row
from surgery.analysis import masking, slices
from surgery.analysis.criticality import SCORES, criticality
from surgery.analysis.scan import Scan, scan
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.gate import gate
from surgery.network.model import Model

BASES = ("cnn", "thin_resnet")
SEEDS = (0, 1, 2)
RATES = (0.1, 0.2, 0.3, 0.4)
THETAS = (0.90, 0.92, 0.94, 0.96, 0.98, 0.99)
SCANNED, CHOSEN_ON = 10_000, 1_500  # samples of train and of val
OURS, THEIRS = ("all", "theta"), ("global", "class")
CALLED = {"all": "all layers", "theta": "Θ", "global": "global top-p", "class": "category-wise top-p"}


class Bench:
    """One trained base with its scan, scores and levels."""

    def __init__(self, name: str, seed: int, *, quick: bool) -> None:
        self.model: Model = base(name, seed)
        self.data: Dataset = cifar10().without_test()
        self.test = cifar10()
        ctx = Context(seed=seed)
        self.found: Scan = scan(self.model, self.data, ctx, limit=2_000 if quick else SCANNED)
        scored = criticality(self.model, self.data, self.found, ctx, limit=500 if quick else 2_000, fill="mean")
        self.scores = scored.scores
        seen = slices.observe(self.model, self.data, self.found, ctx)
        self.levels = {
            (score, fill): slices.levels(self.model, self.data, self.found, table, ctx, fill=fill, seen=seen)
            for score, table in self.scores.items()
            for fill in slices.FILLS
        }
        self.shapes = masking.shapes_of(self.model)
        val = self.data.ids("val")
        self.val = val[np.random.default_rng(seed).permutation(len(val))[: 500 if quick else CHOSEN_ON]]
        self.held = self.test.ids("test")[:: 10 if quick else 1]

    def accuracy(self, keep: Tensor, *, on_test: bool, fill: str = "mean") -> float:
        """Accuracy with only `keep`: bool[N]."""
        ids, data = (self.held, self.test) if on_test else (self.val, self.data)
        means = self.found.means if fill == "mean" else None
        truth = torch.as_tensor(data.labels(ids))
        with torch.inference_mode(), gate(self.model.module, self.model.index, keep.float(), means):
            answers = [self.model(x).argmax(1) for x, _, _ in data.batches(ids, self.model.input, size=500)]
        return float((torch.cat(answers) == truth).double().mean())

    def at(self, importance: Tensor, rate: float) -> Tensor:
        """bool[N]: what stays when the least important neurons are masked, `rate` of the parameters."""
        index = self.model.index
        return masking.keep_at(index, self.shapes, masking.order_of(index, importance), rate)

    def best(self, way: masking.Way, rate: float) -> dict[str, Any]:
        """A slicer with the score that serves it best on validation data, and its accuracy on test."""
        index = self.model.index
        keeps = {
            score: self.at(masking.importance(way, index, table, self.levels[score, "mean"]), rate)
            for score, table in self.scores.items()
        }
        score = max(SCORES, key=lambda name: self.accuracy(keeps[name], on_test=False))
        masked = masking.masked(index, self.shapes, keeps[score])
        return {"score": score, "masked": masked, "test": self.accuracy(keeps[score], on_test=True)}


def at_rate(name: str, seed: int, rate: float, bench: Bench) -> dict[str, Any]:
    """One line: all slicers at one rate."""
    found = {way: bench.best(way, rate) for way in (*OURS, *THEIRS)}
    chance = torch.rand(bench.model.index.n, generator=torch.Generator().manual_seed(seed))
    line: dict[str, Any] = {"base": name, "seed": seed, "rate": rate}
    for way, one in found.items():
        line[CALLED[way]] = round(100 * one["test"], 2)
        line[f"{CALLED[way]}: score"] = one["score"]
    line["random"] = round(100 * bench.accuracy(bench.at(chance, rate), on_test=True), 2)
    line["masked, least and most"] = " – ".join(
        f"{pick(one['masked'] for one in found.values()):.3f}" for pick in (min, max)
    )
    line["whole"] = round(100 * bench.accuracy(torch.ones(bench.model.index.n, dtype=torch.bool), on_test=True), 2)
    return line


def at_theta(name: str, seed: int, theta: float, bench: Bench) -> dict[str, Any]:
    """One line: what a threshold masks and keeps (Taylor), with zeros and with means."""
    line: dict[str, Any] = {"base": name, "seed": seed, "Θ": theta}
    for fill in slices.FILLS:
        needed = slices.critical(bench.levels["taylor", fill], theta).any(1) | bench.model.index.logits
        keep = bench.model.index.close(needed)
        line[f"masked, {fill}"] = masking.masked(bench.model.index, bench.shapes, keep)
        line[f"accuracy, {fill}"] = round(100 * bench.accuracy(keep, on_test=True, fill=fill), 2)
    return line


def measure(*, quick: bool) -> dict[str, Any]:
    """How many of the four rates our best slicer wins, over bases and seeds; all lines."""
    bases, seeds = BASES, SEEDS[: 1 if quick else None]
    rates, thetas = (RATES[1::2], THETAS[2::3]) if quick else (RATES, THETAS)
    lines, levels = [], []
    for name in bases:
        for seed in seeds:
            opened: dict[str, Bench] = {}

            def bench(name: str = name, seed: int = seed, opened: dict[str, Bench] = opened) -> Bench:
                return opened.setdefault("bench", opened.get("bench") or Bench(name, seed, quick=quick))

            key = f"{name}/{seed}/{quick}"
            lines += [
                row("slices", f"{key}/{rate}", lambda rate=rate, b=bench, n=name, s=seed: at_rate(n, s, rate, b()))
                for rate in rates
            ]
            levels += [
                row("slices", f"{key}/Θ{theta}", lambda t=theta, b=bench, n=name, s=seed: at_theta(n, s, t, b()))
                for theta in thetas
            ]
    figures = {f"rates_won_{name}": won([line for line in lines if line["base"] == name]) for name in bases}
    return {**figures, "seeds": len(seeds), "table": [*lines, *levels]}


def won(lines: list[dict[str, Any]]) -> int:
    """At how many rates the better of our slicers is ahead of both baselines, in the mean over seeds."""
    count = 0
    for rate in sorted({line["rate"] for line in lines}):
        own = [line for line in lines if line["rate"] == rate]
        mean = {way: float(np.mean([line[CALLED[way]] for line in own])) for way in CALLED}
        count += max(mean[way] for way in OURS) > max(mean[way] for way in THEIRS)
    return count
