"""Does training only the neurons that carry the trouble serve as well as training all, and forget less?

Two troubles of the cnn on CIFAR-10: weights randomised until training accuracy is 30 points down (new data = the same
data), and a corrupted domain (noise). Equal epochs, batches and learning rate for: ours, random neurons with equally
many parameters (the same operation otherwise), and full fine-tuning on the new data alone, as one does without this.
Ours mixes a quarter of old samples into its batches; a further line shows it without.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bases import accuracy, base, cifar10
from benchmarks.rows import row
from surgery.context import Context
from surgery.data import drift
from surgery.data.dataset import Dataset
from surgery.edit.damage import damaged
from surgery.edit.evaluate import quality
from surgery.edit.tune import tune
from surgery.network.model import Model
from surgery.operations.readapt import Readapt

SEEDS = (0, 1, 2)
TROUBLES = ("damage", "noise")
SHARE, EPOCHS, RATE, STRENGTH = 0.45, 2, 1e-3, 0.35
DOWN, LOOKED, HALVINGS = 0.30, 4_000, 10  # points lost by the damage, on so many training samples; of the degree
WAYS: dict[str, dict[str, Any]] = {
    "ours": {"choose": "carrying", "replay": 0.25},
    "ours, no old samples": {"choose": "carrying", "replay": 0.0},
    "random neurons": {"choose": "random", "replay": 0.25},
}
FULL = "full fine-tuning"


@cache
def noisy() -> Dataset:
    """CIFAR-10 with noise."""
    data = cifar10()
    folder = Path(tempfile.mkdtemp()) / "noisy"
    return drift.make(data, folder, lambda ids: drift.drifted(data, ids, "noise", STRENGTH), Context(), name="noisy")


@cache
def patient(trouble: str, seed: int) -> tuple[Model, Dataset]:
    """The model in trouble and the data it should learn from."""
    model, data = base("cnn", seed), cifar10()
    if trouble != "damage":
        return model, noisy()
    ids = np.sort(np.random.default_rng(seed).permutation(data.ids("train"))[:LOOKED])
    whole, low, high = quality(model, data, ids, Context()), 0.0, 2.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        down = whole - quality(damaged(model, middle, seed), data, ids, Context())
        low, high = (middle, high) if down < DOWN else (low, middle)
    return damaged(model, high, seed), data


def one(trouble: str, seed: int, way: str) -> dict[str, Any]:
    """One line: what a way makes of a model in trouble."""
    model, new = patient(trouble, seed)
    old, ctx = cifar10(), Context(seed=seed)
    trained, share = model, 0.0
    if way == FULL:
        trained, share = tune(model, new.without_test(), ctx, epochs=EPOCHS, rate=RATE), 1.0
    elif way != "as it is":
        plan = Readapt(share=SHARE, epochs=EPOCHS, rate=RATE, tolerance=100, **WAYS[way])
        outcome = plan.operate([model], old.without_test().with_new(new.without_test()), ctx)
        trained, share = outcome.models[0], float(outcome.tables["trained"]["parameters trained"].iloc[0])
    return {
        "trouble": trouble,
        "seed": seed,
        "way": way,
        "trained": share,
        "new": round(100 * accuracy(trained, new, new.ids("test")), 2),
        "old": round(100 * accuracy(trained, old, old.ids("test")), 2),
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures over both troubles; the quick form has one seed and one trouble."""
    seeds, troubles = (SEEDS[:1], TROUBLES[:1]) if quick else (SEEDS, TROUBLES)
    ways = ("as it is", *WAYS, FULL)
    table = [
        row("readapt", f"{t}/{s}/{w}", lambda t=t, s=s, w=w: one(t, s, w))
        for t in troubles
        for s in seeds
        for w in (ways if not quick else ("as it is", "ours", FULL))
    ]

    def mean(trouble: str, way: str, column: str) -> float:
        found = [line[column] for line in table if (line["trouble"], line["way"]) == (trouble, way)]
        return float(np.mean(found)) if found else float("nan")

    figures: dict[str, Any] = {"most_trained": max(line["trained"] for line in table if line["way"] == "ours")}
    for trouble in troubles:
        figures[f"behind_full_{trouble}"] = round(mean(trouble, FULL, "new") - mean(trouble, "ours", "new"), 2)
        if not quick:
            ahead = mean(trouble, "ours", "new") - mean(trouble, "random neurons", "new")
            figures[f"ahead_of_random_{trouble}"] = round(ahead, 2)
    if not quick:
        figures["old_kept_beyond_full"] = round(mean("noise", "ours", "old") - mean("noise", FULL, "old"), 2)
    return {**figures, "table": table}
