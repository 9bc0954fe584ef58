"""Do dense networks lose most of their parameters without losing quality, when the units go that hardly vary?

Large uniform MLPs are trained by the product (`build_large`), then slimmed with the defaults (regression: 1 point of R²
may be lost on validation). Digits, breast cancer and diabetes: five folds, each the test samples once, for each of five
seeds; a line pools the folds of a seed. Flattened CIFAR-10: the given test samples, three seeds. Beside it the base
with as many extra epochs, and the same topology from scratch with as many epochs. Lost: points of accuracy behind the
base with the same extra epochs, with the upper end of the 95 % interval of the mean: pairs are pooled over folds and
seeds, and each sample's differences over seeds count as one. Where slimming is refused, the base is its result.

ε = 0 must be the identity, and a unit that never changes must go without a trace: relative differences of logits.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import torch
from sklearn.model_selection import KFold, StratifiedKFold

from benchmarks.bases import cifar10
from benchmarks.rows import cache_folder, row
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.build_large import build_large
from surgery.edit.evaluate import predict
from surgery.edit.tune import tune
from surgery.errors import SelectionError
from surgery.network.certificate import relative
from surgery.network.model import Model
from surgery.operations.base import Candidate
from surgery.operations.slim_mlp import SlimMlp
from surgery.operations.slimming import from_scratch

FOLDS, SEEDS, CIFAR_SEEDS = 5, (0, 1, 2, 3, 4), (0, 1, 2)
WIDTHS = {"digits": 256, "breast cancer": 128, "diabetes": 128, "CIFAR-10": 512}
LOADERS = {"digits": "load_digits", "breast cancer": "load_breast_cancer", "diabetes": "load_diabetes"}
PLANS = {"diabetes": SlimMlp(tolerance=1.0)}
VAL, PAIRS = 0.2, "pairs"
CIFAR_EPOCHS = 15.0


def fold(name: str, seed: int, number: int) -> Dataset:
    """One of five divisions of a small table; of what is no test sample a fifth is for validation."""
    made = getattr(sklearn.datasets, LOADERS[name])()
    x, y, regression = made.data.astype(np.float32), made.target, name == "diabetes"
    folds = (KFold if regression else StratifiedKFold)(FOLDS, shuffle=True, random_state=seed)
    rest, test = list(folds.split(x, y))[number]
    rest = np.random.default_rng(FOLDS * seed + number).permutation(rest)
    roles = np.full(len(x), "train", dtype=object)
    roles[test], roles[rest[: round(VAL * len(rest))]] = "test", "val"
    return from_arrays(
        Path(tempfile.mkdtemp()) / "data",
        x,
        y.astype(np.float32) if regression else y,
        classes=() if regression else tuple(map(str, made.target_names)),
        name=name,
        task="regression" if regression else "classification",
        roles=roles.tolist(),
    )


@cache
def flat() -> Dataset:
    """CIFAR-10 as a table of 3,072 columns, in the roles of the pictures."""
    folder, pictures = cache_folder() / "cifar10-flat", cifar10()
    if not (folder / "dataset.json").exists():
        ids = np.concatenate([pictures.ids(role) for role in ("train", "val", "test")])
        roles = [role for role in ("train", "val", "test") for _ in pictures.ids(role)]
        x = pictures.raw(ids).reshape(len(ids), -1).astype(np.float32) / 255
        labels, classes = pictures.labels(ids), pictures.classes
        from_arrays(folder, x, labels, classes=classes, name="CIFAR-10, flat", task="classification", roles=roles)
    return Dataset.open(folder)


def four(name: str, data: Dataset, seed: int) -> tuple[dict[str, Model], Candidate]:
    """The base, it with as many extra epochs, slimmed, and the slim topology from scratch; and the chosen candidate."""
    given, ctx = data.without_test(), Context(seed=seed)
    epochs = CIFAR_EPOCHS if name == "CIFAR-10" else 40.0
    base = build_large(given, ctx, width=WIDTHS[name], epochs=epochs)
    found: list[Candidate] = []
    plan = PLANS.get(name, SlimMlp())
    try:
        plan.operate([base], given, replace(ctx, offer=found.append))
    except SelectionError:  # nothing may go: the base stays as it is
        found = [Candidate(0, base, None, {"left": 1.0, "epochs": plan.epochs}, accepted=True)]
    best = [candidate for candidate in found if candidate.accepted][-1]
    spent = float(best.figures["epochs"])
    return {
        "base": base,
        "more": tune(base, given, ctx, epochs=spent, rate=plan.rate, decay=plan.decay),
        "slim": best.model,
        "scratch": tune(
            from_scratch(best.model, given, seed), given, ctx, epochs=spent, rate=plan.rate, decay=plan.decay
        ),
    }, best


def one(name: str, seed: int) -> dict[str, Any]:
    """One line: all folds of a seed together."""
    divisions = [flat()] if name == "CIFAR-10" else [fold(name, seed, number) for number in range(FOLDS)]
    errors: dict[str, list[np.ndarray]] = {"base": [], "more": [], "slim": [], "scratch": []}
    gone, layers, tested = [], [], []
    for number, data in enumerate(divisions):
        models, best = four(name, data, FOLDS * seed + number)
        truth = np.asarray(data.labels(data.ids("test")))
        for key, model in models.items():
            said = predict(model, data, data.ids("test"), Context()).double().numpy()
            squared = (said[:, 0] - truth) ** 2 if data.task == "regression" else said.argmax(1) != truth
            errors[key].append(squared)
        tested.append(data.ids("test"))
        gone.append(1 - best.figures["left"])
        layers.append(len(best.model.module.names) - 1)
    means = {key: float(np.concatenate(found).mean()) for key, found in errors.items()}
    regression = name == "diabetes"
    scores = means if regression else {key: 100 * (1 - value) for key, value in means.items()}
    return {
        "data": name,
        "seed": seed,
        "measure": "MSE" if regression else "accuracy",
        **{key: round(value, 2) for key, value in scores.items()},
        "lost": None if regression else round(scores["more"] - scores["slim"], 3),
        "MSE ratio": round(means["slim"] / means["more"], 4) if regression else None,
        "ahead of scratch": means["slim"] < means["scratch"],
        "gone %": round(100 * float(np.mean(gone)), 1),
        "hidden layers left": round(float(np.mean(layers)), 1),
        PAIRS: _pairs(errors, tested) if not regression else [],
    }


def _pairs(errors: dict[str, list[np.ndarray]], tested: list[np.ndarray]) -> list[int]:
    """For every test sample, in the order of its number: wrong when slim minus wrong with the base tuned as long."""
    differences = np.concatenate([a.astype(int) - b for a, b in zip(errors["slim"], errors["more"], strict=True)])
    return [int(one) for one in differences[np.concatenate(tested).argsort()]]


def exact(seed: int) -> dict[str, float]:
    """ε = 0, and a unit that never changes."""
    data = fold("digits", seed, 0).without_test()
    base = build_large(data, Context(seed=seed), width=64, epochs=4)
    with torch.no_grad():
        base.module.get_submodule("2").weight[5] = 0.0
        base.module.get_submodule("2").bias[5] = 0.7
    x = next(iter(data.batches(data.ids("val"), base.input)))[0]
    found = {}
    for name, epsilon in (("identity", 0.0), ("constant_unit", 1e-9)):
        plan = SlimMlp(epsilon=epsilon, epochs=0, layers=False, tolerance=100)
        model = plan.operate([base], data, Context()).models[0]
        with torch.no_grad():
            found[name] = relative(model(x), base(x))
        assert model.index is not None
        assert base.index is not None
        assert (model.index.n < base.index.n) == (epsilon > 0)
    return found


def high(pairs: list[list[int]]) -> float:
    """The upper end of the 95 % interval of the mean loss in points; pairs: per seed, of all samples."""
    each = 100 * np.array(pairs, dtype=float).mean(0)
    return float(each.mean()) + 1.96 * float(each.std(ddof=1)) / len(each) ** 0.5


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures of every dataset; the quick form has breast cancer and diabetes with two seeds."""
    cases = {"breast cancer": SEEDS[:2], "diabetes": SEEDS[:2]}
    if not quick:
        cases = {**dict.fromkeys(LOADERS, SEEDS), "CIFAR-10": CIFAR_SEEDS}
    table = [row("slim_mlp", f"{n}/{s}", lambda n=n, s=s: one(n, s)) for n, seeds in cases.items() for s in seeds]
    figures: dict[str, Any] = {}
    for name in cases:
        own, key = [line for line in table if line["data"] == name], name.lower().replace(" ", "_").replace("-", "")
        figures[f"{key}_gone"] = round(float(np.mean([line["gone %"] for line in own])) / 100, 3)
        if name == "diabetes":
            figures[f"{key}_mse_ratio"] = round(float(np.mean([line["MSE ratio"] for line in own])), 4)
        else:
            figures[f"{key}_lost"] = round(float(np.mean([line["lost"] for line in own])), 3)
            figures[f"{key}_lost_high"] = round(high([line[PAIRS] for line in own]), 3)
        figures[f"{key}_ahead_of_scratch"] = float(np.mean([line["ahead of scratch"] for line in own]))
    shown = [{key: value for key, value in line.items() if key != PAIRS} for line in table]
    return {**figures, **row("slim_mlp", "exact", lambda: exact(0)), "table": shown}
