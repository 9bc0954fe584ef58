"""Does compressing by expected effect keep more accuracy than a well-kept pruner, and does a slice save iterations?

resnet18 on CIFAR-10: at 50 % and 25 % of the parameters, after one epoch of tuning on the same 15,000 images with the
same optimiser, batches and schedule. The rival is Torch-Pruning, its best of {random, L2, BatchNorm scale, Taylor} ×
{all layers together, each alike}: the best mean over seeds on test. Ours may have at most 1.05 times that rival's
multiply-accumulates, seed by seed.

cnn: how many iterations of a known pruner reach a compression, with the neurons that no class needs removed first
(which counts as one) and without; every iteration removes the same share and tunes for a tenth of an epoch.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import t as student
from torch import nn

from benchmarks.bases import accuracy, base, cifar10
from benchmarks.rows import row
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.tune import tune
from surgery.network.cost import macs, parameters
from surgery.network.model import Model
from surgery.operations.compress import Compress

SEEDS = (0, 1, 2)
SHARES = (0.5, 0.25)
IMAGES = 15_000
RATE = 5e-4
RIVALS = tuple(f"{kind}, {way}" for kind in ("random", "L2", "BN scale", "Taylor") for way in ("together", "alike"))
SLACK = 1.05  # of the rival's multiply-accumulates
CALIBRATION = 1_024  # images that the rival's Taylor takes its gradients from
HALVINGS = 12  # of the rival's pruning ratio
PRUNERS = ("lamp", "global", "uniform+", "erk")
LEFT, STEPS, TENTH = 0.4, 9, 0.1  # of the parameters; iterations of 10 % each; of an epoch


@cache
def images() -> Dataset:
    """CIFAR-10 with 15,000 of its training images; validation and test samples are those of the bases' data."""
    whole = cifar10()
    chosen = np.sort(np.random.default_rng(0).permutation(whole.ids("train"))[:IMAGES])
    parts = {"train": chosen, "val": whole.ids("val"), "test": whole.ids("test")}
    ids = np.concatenate(list(parts.values()))
    roles = [role for role, own in parts.items() for _ in own]
    folder = Path(tempfile.mkdtemp()) / "images"
    return from_arrays(
        folder,
        whole.raw(ids),
        whole.labels(ids),
        classes=whole.classes,
        name="CIFAR-10, part",
        task="classification",
        roles=roles,
    )


def on(model: Model, role: str) -> float:
    """Accuracy in percent."""
    return round(100 * accuracy(model, images(), images().ids(role)), 2)


def healed(model: Model, seed: int) -> Model:
    """One epoch of tuning."""
    return tune(model, images().without_test(), Context(seed=seed), epochs=1, rate=RATE)


def pruned(model: Model, kind: str, way: str, ratio: float, seed: int) -> nn.Module:
    """What Torch-Pruning leaves at a ratio."""
    import torch_pruning as tp

    importance = {
        "random": tp.importance.RandomImportance,
        "L2": tp.importance.GroupMagnitudeImportance,
        "BN scale": tp.importance.BNScaleImportance,
        "Taylor": tp.importance.GroupTaylorImportance,
    }[kind]()
    module = copy.deepcopy(model.module)
    torch.manual_seed(seed)
    pruner = tp.pruner.BasePruner(
        module,
        torch.zeros(1, *model.input.shape),
        importance=importance,
        global_pruning=way == "together",
        pruning_ratio=ratio,
        ignored_layers=[module.fc],
    )
    if kind == "Taylor":
        data = images()
        for x, y, _ in data.batches(data.ids("train")[:CALIBRATION], model.input):
            F.cross_entropy(module(x), y).backward()
    pruner.step()
    module.zero_grad()
    return module


def rival(name: str, seed: int, share: float) -> dict[str, Any]:
    """Torch-Pruning down to a share of the parameters, before and after tuning."""
    model, (kind, way) = base("resnet18", seed), name.split(", ")
    low, high = 0.0, 0.98
    found: dict[float, Model] = {}
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        small = replace(model, module=pruned(model, kind, way, middle, seed), index=None)
        reached = parameters(small) / parameters(model)
        found[abs(reached - share)] = small
        low, high = (middle, high) if reached > share else (low, middle)
    return measured(found[min(found)], model, seed, share, name)


def measured(small: Model, model: Model, seed: int, share: float, name: str) -> dict[str, Any]:
    """One line of the table."""
    facts = {"base": "resnet18", "seed": seed, "asked": share, "way": name}
    sizes = {"left": parameters(small) / parameters(model), "MACs left": macs(small) / macs(model)}
    return {**facts, **sizes, "untuned": on(small, "test"), "test": on(healed(small, seed), "test")}


def ours(seed: int, share: float, products: float) -> dict[str, Any]:
    """Our operation at the same share, with at most `products` of the multiply-accumulates."""
    model, data = base("resnet18", seed), images().without_test()
    plan = Compress(parameters=share, macs=products, tolerance=None, slices="no", steps=1, epochs=0)
    small = plan.operate([model], data, Context(seed=seed)).models[0]
    return measured(small, model, seed, share, "ours")


def unpruned(seed: int) -> dict[str, Any]:
    """The base after the same epoch."""
    return measured(base("resnet18", seed), base("resnet18", seed), seed, 1.0, "no surgery")


def duel(
    seeds: tuple[int, ...], shares: tuple[float, ...], rivals: tuple[str, ...]
) -> tuple[dict[str, Any], list[Any]]:
    """Figures and lines of the comparison with Torch-Pruning."""
    figures: dict[str, Any] = {}
    lines = [row("compress", f"unpruned/{seed}", lambda s=seed: unpruned(s)) for seed in seeds]
    for share in shares:
        theirs = {
            name: [row("compress", f"{name}/{s}/{share}", lambda n=name, s=s, p=share: rival(n, s, p)) for s in seeds]
            for name in rivals
        }
        best = max(theirs, key=lambda name: float(np.mean([one["test"] for one in theirs[name]])))
        mine = []
        for seed, one in zip(seeds, theirs[best], strict=True):
            products = round(SLACK * one["MACs left"], 4)
            key = f"ours/{seed}/{share}/{products}"
            mine.append(row("compress", key, lambda s=seed, p=share, m=products: ours(s, p, m)))
        ahead = np.array([a["test"] - b["test"] for a, b in zip(mine, theirs[best], strict=True)])
        half = spread(ahead)
        per = f"{share:.0%}".rstrip("%")
        figures |= {
            f"ahead_at_{per}": round(float(ahead.mean()), 2),
            f"ahead_at_{per}_low": round(float(ahead.mean() - half), 2),
            f"worst_size_at_{per}": round(max(abs(one["left"] / share - 1) for one in mine), 4),
            f"most_products_at_{per}": round(
                max(a["MACs left"] / b["MACs left"] for a, b in zip(mine, theirs[best], strict=True)), 4
            ),
            f"best_rival_at_{per}": best,
        }
        lines += [one for own in theirs.values() for one in own] + mine
    return figures, lines


def spread(values: np.ndarray) -> float:
    """Half the width of the 95 % interval of a mean, by Student's t."""
    if len(values) < 2:
        return float("inf")
    return float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def iterations(pruner: str, seed: int, *, with_slices: bool) -> dict[str, Any]:
    """How many iterations come down to LEFT of the parameters, and what is left of the accuracy."""
    model = base("cnn", seed)
    plan = Compress(
        parameters=LEFT,
        tolerance=None,
        order=pruner,
        slices="ranked" if with_slices else "no",
        twins=False,
        steps=STEPS,
        epochs=TENTH,
        rate=RATE,
    )
    outcome = plan.operate([model], cifar10().without_test(), Context(seed=seed))
    small = outcome.models[0]
    return {
        "base": "cnn",
        "seed": seed,
        "pruner": pruner,
        "slices first": "yes" if with_slices else "no",
        "iterations": len(outcome.tables["candidates"]) - 1,
        "left": parameters(small) / parameters(model),
        "test": round(100 * accuracy(small, cifar10(), cifar10().ids("test")), 2),
        "whole": round(100 * accuracy(model, cifar10(), cifar10().ids("test")), 2),
    }


def restructure(seeds: tuple[int, ...], pruners: tuple[str, ...]) -> tuple[dict[str, Any], list[Any]]:
    """For how many pruners the slice saves iterations at no more than half a point of loss."""
    lines, saved, won = [], [], 0
    for pruner in pruners:
        pairs = [
            [
                row("compress", f"{pruner}/{s}/{w}", lambda p=pruner, s=s, w=w: iterations(p, s, with_slices=w))
                for w in (False, True)
            ]
            for s in seeds
        ]
        fewer = [1 - b["iterations"] / a["iterations"] for a, b in pairs]
        change = float(np.mean([b["test"] - a["test"] for a, b in pairs]))
        won += min(fewer) > 0 and change >= -0.5
        saved.append(float(np.mean(fewer)))
        lines += [one for pair in pairs for one in pair]
    return {"pruners_with_fewer_iterations": won, "iterations_saved": round(float(np.mean(saved)), 3)}, lines


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures. The quick form has one pruner and one seed of the cnn."""
    if quick:
        figures, lines = restructure((0,), ("lamp",))
        return {**figures, "table": lines}
    figures, lines = duel(SEEDS, SHARES, RIVALS)
    others, more = restructure(SEEDS, PRUNERS)
    return {**figures, **others, "table": [*lines, *more]}
