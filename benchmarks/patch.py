"""Does a module of a strong model heal a class that a weak one knows badly, at no cost to the other classes?

Weak as in the paper: an over-simple network, an underfit one, and one that saw 8 % of the class. Mildly weak: an
overfit one (a tenth of the samples) and one that saw 30 % of the class; of these, cases in which the class is 3 to 10
points of F1 under the donor count. Donor: the cnn of the same seed, split on 10,000 samples. Calibration affine,
fitted on validation; precision, recall, F1 and the accuracy of all other classes on test. Control: the weak model
trained on for as many seconds as patching took, on the training samples that it had.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.bases import Recipe, cifar10
from benchmarks.modules import Weak, strong, weak
from benchmarks.rows import row
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import predict
from surgery.edit.tune import tune
from surgery.errors import SelectionError
from surgery.network.model import Model
from surgery.operations.patch import Patch
from surgery.operations.transplant import Effect

SEEDS, CLASSES = (0, 1, 2), ("bird", "cat", "truck")
BASE = Recipe("cnn", epochs=4, rate=0.1, least=0.0)
GENERAL = {
    "over-simple": ("weak", Weak(Recipe("simple", epochs=2, rate=0.1, least=0.0))),
    "underfit": ("weak", Weak(Recipe("cnn", epochs=1, rate=0.01, least=0.0))),
    "overfit": ("mild", Weak(Recipe("cnn", epochs=30, rate=0.1, least=0.0), share=0.1)),
}
STARVED = {"starved to 8 %": ("weak", 0.08), "starved to 30 %": ("mild", 0.30)}
MILD = (3.0, 10.0)  # points of F1 under the donor
RATE = 1e-3


def made(kind: str, target: str, seed: int) -> tuple[str, Weak]:
    """How weak it is, and how it is made."""
    if kind in GENERAL:
        return GENERAL[kind]
    grade, share = STARVED[kind]
    return grade, Weak(BASE, target, share)


def effect(model: Model, data: Dataset, target: str) -> Effect:
    """Of a class, on test."""
    ids = data.ids("test")
    answers = predict(model, data, ids, Context()).argmax(1)
    return Effect.of(answers, torch.as_tensor(data.labels(ids)), data.classes.index(target))


class Seen:
    """A dataset whose training samples are those that a weak model had."""

    def __init__(self, data: Dataset, ids: np.ndarray) -> None:
        self.data, self.own = data, ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def ids(self, role: str) -> np.ndarray:
        """Fewer of role train."""
        return self.own if role == "train" else self.data.ids(role)


def longer(model: Model, data: Any, seconds: float, seed: int) -> Model:
    """The control: trained on for about so many seconds."""
    start, share = time.monotonic(), 0.02
    tune(model, data, Context(seed=seed), epochs=share, rate=RATE)
    epochs = share * seconds / max(time.monotonic() - start, 1e-9)
    return tune(model, data, Context(seed=seed), epochs=epochs, rate=RATE)


def one(kind: str, target: str, seed: int) -> dict[str, Any]:
    """One line: a weak class before and after."""
    grade, how = made(kind, target, seed)
    data, patient, donor = cifar10(), weak(how, seed), strong(seed)
    start, refused = time.monotonic(), ""
    try:
        patched = Patch(target=target).operate([patient, donor], data.without_test(), Context(seed=seed)).models[0]
    except SelectionError as error:
        patched, refused = patient, str(error)[:40]
    seconds = time.monotonic() - start
    before, after = effect(patient, data, target), effect(patched, data, target)
    control = effect(longer(patient, Seen(data, how.samples(data, seed)), seconds, seed), data, target)
    best = effect(donor, data, target)

    def gain(what: str) -> float:
        return round(100 * (getattr(after, what) - getattr(before, what)), 2)

    return {
        "grade": grade,
        "kind": kind,
        "class": target,
        "seed": seed,
        "F1": round(100 * before.f1, 1),
        "donor": round(100 * best.f1, 1),
        "+F1": gain("f1"),
        "+precision": gain("precision"),
        "+recall": gain("recall"),
        "others": gain("others"),
        "control +F1": round(100 * (control.f1 - before.f1), 2),
        "control others": round(100 * (control.others - before.others), 2),
        "seconds": round(seconds, 1),
        "refused": refused,
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures over all cases; the quick form has two kinds, one class and one seed."""
    seeds, classes = (SEEDS[:1], CLASSES[:1]) if quick else (SEEDS, CLASSES)
    kinds = ("underfit", "over-simple") if quick else (*GENERAL, *STARVED)
    table = [
        row("patch", f"{kind}/{target}/{seed}", lambda k=kind, t=target, s=seed: one(k, t, s))
        for seed in seeds
        for kind in kinds
        for target in classes
    ]
    weaker = [line for line in table if line["grade"] == "weak"]
    mild = [line for line in table if line["grade"] == "mild" and MILD[0] <= line["donor"] - line["F1"] <= MILD[1]]
    figures: dict[str, Any] = {
        f"weak_gain_{name}": round(float(np.mean([line[f"+{what}"] for line in weaker])), 2)
        for name, what in (("f1", "F1"), ("precision", "precision"), ("recall", "recall"))
    }
    figures["worst_loss_of_others"] = round(max(-line["others"] for line in table), 2)
    if not quick:
        gains = np.array([line["+F1"] for line in mild])
        spread = 1.96 * float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else float("inf")
        figures["mild_cases"] = len(gains)
        figures["mild_gain_f1"] = round(float(gains.mean()), 2) if len(gains) else float("nan")
        figures["mild_gain_low"] = round(figures["mild_gain_f1"] - spread, 2)
    return {**figures, "table": table}
