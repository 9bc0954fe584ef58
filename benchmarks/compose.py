"""Does a classifier composed of modules of two models come near one trained from scratch?

Ten pairs as in the paper: a class of CIFAR-10 from the cnn, a digit from the digits sample, equally many samples of
both. Ten harder ones: a class of the first half of CIFAR-10 from a cnn that knows only that half, one of the second
half from another; they never saw one another's classes. Scores are calibrated on 50 validation samples per class.
Scratch: the cnn with two outputs, trained on the training samples of the two classes by the same recipe for every
pair. Accuracy on test.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import sample_models
from benchmarks.bases import Recipe, accuracy, base, cifar10, cnn, half, train
from benchmarks.modules import modelled, split_once, strong
from benchmarks.rows import cache_folder, row
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.network import store
from surgery.network.cost import bytes_of
from surgery.network.model import Model
from surgery.operations.compose import Compose

SEED, CALIBRATION = 0, 50
HARD = (
    *(("airplane", "truck"), ("automobile", "ship"), ("bird", "horse"), ("cat", "dog"), ("deer", "frog")),
    *(("airplane", "dog"), ("automobile", "horse"), ("bird", "frog"), ("cat", "truck"), ("deer", "ship")),
)
SECOND = Recipe("cnn", epochs=10, rate=0.1, least=0.0)
SCRATCH = Recipe("cnn", epochs=10, rate=0.1, least=0.0)
SCRATCH_SMALL = Recipe("cnn", epochs=40, rate=0.05, least=0.0)  # of the few digits


@cache
def halves() -> tuple[Model, Model]:
    """Two cnns that know one half of the classes each, with their modules."""
    first = split_once(base("cnn_half", SEED), half(second=False), "first-half", SEED)
    torch.manual_seed(SEED + 7)
    module, file = cnn(5), cache_folder() / f"second-half-{SECOND.digest}.pt"
    if file.exists():
        module.load_state_dict(torch.load(file, weights_only=True))
    else:
        train(module, SECOND, half(second=True), SEED + 7, file)
    other = modelled(module.eval(), "second_half", half(second=True).classes)
    return first, split_once(other, half(second=True), "second-half", SEED)


@cache
def digits() -> tuple[Model, Dataset]:
    """The digits sample with its modules, and its data."""
    folder = cache_folder() / "digits"
    if not (folder / "dataset.json").exists():
        sample_models.make_data("digits", folder)
    data = Dataset.open(folder)
    return split_once(store.load(sample_models.model_folder("digits")), data, "digits", SEED), data


@cache
def mixed(picture: str, digit: str) -> Dataset:
    """Samples of a CIFAR-10 class and of a digit, as many of both in each role."""
    folder = cache_folder() / f"mixed-{picture}-{digit}"
    if (folder / "dataset.json").exists():
        return Dataset.open(folder)
    pictures, labels, roles = [], [], []
    numbers = digits()[1]
    for role in ("train", "val", "test"):
        own, others = (
            found.ids(role)[found.labels(found.ids(role)) == found.classes.index(name)]
            for found, name in ((cifar10(), picture), (numbers, digit))
        )
        own = own[: len(others)]
        small = torch.from_numpy(numbers.raw(others)).permute(0, 3, 1, 2).float()
        large = functional.interpolate(small, (32, 32), mode="bilinear").repeat(1, 3, 1, 1).permute(0, 2, 3, 1)
        pictures += [cifar10().raw(own), large.round().byte().numpy()]
        labels += [0] * len(own) + [1] * len(others)
        roles += [role] * (len(own) + len(others))
    return from_arrays(
        Path(folder),
        np.concatenate(pictures),
        np.array(labels),
        classes=(picture, digit),
        name=f"{picture} and {digit}",
        task="classification",
        roles=roles,
    )


def scratch(data: Dataset, recipe: Recipe, name: str) -> tuple[Model, float]:
    """The cnn trained on two classes, and its seconds."""
    torch.manual_seed(SEED)
    module, file = cnn(2), cache_folder() / f"scratch-{name}-{recipe.digest}.pt"
    start = time.monotonic()
    train(module, recipe, data, SEED, file)
    seconds = time.monotonic() - start
    file.unlink()
    return modelled(module.eval(), "scratch", data.classes), seconds


def digest(model: Model, name: str) -> str:
    """Of a class's module."""
    return next(part.digest for part in model.parts if part.classes == (name,))


def one(kind: str, names: tuple[str, str]) -> dict[str, Any]:
    """One line: a pair composed and trained from scratch."""
    if kind == "hard":
        sources, whole = halves(), cifar10()
        data, recipe = whole.fitting(names), SCRATCH
    else:
        sources, data, recipe = (strong(SEED), digits()[0]), mixed(*names), SCRATCH_SMALL
        whole = data
    plan = Compose(
        modules=tuple(digest(s, name) for s, name in zip(sources, names, strict=True)), calibration=CALIBRATION
    )
    start = time.monotonic()
    made = plan.operate(list(sources), whole.without_test(), Context(seed=SEED)).models[0]
    seconds = time.monotonic() - start
    data = data.fitting(made.classes)
    rival, trained = scratch(data, recipe, "-".join(names))
    scores = [100 * accuracy(model, data, data.ids("test")) for model in (made, rival)]
    return {
        "kind": kind,
        "pair": " / ".join(names),
        "composed": round(scores[0], 2),
        "scratch": round(scores[1], 2),
        "behind": round(scores[1] - scores[0], 2),
        "composed s": round(seconds, 1),
        "scratch s": round(trained, 1),
        "composed kB": round(bytes_of(made) / 1000),
        "sources kB": round(sum(map(bytes_of, sources)) / 1000),
        "scratch kB": round(bytes_of(rival) / 1000),
        "n": len(data.ids("test")),
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures over both kinds of pairs; the quick form has one pair of digits."""
    easy = [("paper", (name, str(number))) for number, name in enumerate(cifar10().classes)]
    hard = [("hard", names) for names in HARD]
    table = [
        row("compose", f"{kind}/{'-'.join(names)}", lambda k=kind, n=names: one(k, n))
        for kind, names in (easy[:1] if quick else [*easy, *hard])
    ]

    def behind(kind: str) -> float:
        return round(float(np.mean([line["behind"] for line in table if line["kind"] == kind])), 2)

    figures = {"behind_scratch_paper": behind("paper")}
    if not quick:
        figures["behind_scratch_halves"] = behind("hard")
    return {**figures, "table": table}
