"""What the benchmarks of modules share: split cnns, and weak models of the same task, trained once and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import nn

from benchmarks.bases import MEAN, NETWORKS, STD, Recipe, base, cifar10, normed, train
from benchmarks.rows import cache_folder, code_digest
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.network import part
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from surgery.operations.split import Split

SAMPLES, TOLERANCE = 10_000, 1.5


@dataclass(frozen=True)
class Weak:
    """How a weak model is made: a recipe on fewer samples, of one class or of all.

    starved: the class of which only `share` (0–1) of the training samples are seen; "" = of every class.
    """

    recipe: Recipe
    starved: str = ""
    share: float = 1.0

    @property
    def digest(self) -> str:
        """Names how it is made."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def samples(self, data: Dataset, seed: int) -> np.ndarray:
        """The training samples that it sees."""
        ids = data.ids("train")
        own = np.ones(len(ids), dtype=bool)
        if self.starved:
            own = data.labels(ids) == data.classes.index(self.starved)
        few = np.random.default_rng(seed).permutation(ids[own])[: round(self.share * own.sum())]
        return np.sort(np.concatenate([ids[~own], few]))


def simple() -> nn.Module:
    """Four thin convolutions: too simple for the task."""
    widths = ((3, 8, 2), (8, 12, 2), (12, 16, 2), (16, 16, 1))
    layers = [one for c_in, c_out, stride in widths for one in (normed(c_in, c_out, stride), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def weak(how: Weak, seed: int) -> Model:
    """The trained weak model, from the cache when it is there."""
    data = cifar10()
    file = cache_folder() / f"weak-{how.recipe.network}-{how.digest}-{seed}.pt"
    torch.manual_seed(1_000 + seed)
    module = simple() if how.recipe.network == "simple" else NETWORKS[how.recipe.network](10)
    if file.exists():
        module.load_state_dict(torch.load(file, weights_only=True))
    else:
        train(module, how.recipe, data, 1_000 + seed, file, how.samples(data, seed))
    return modelled(module.eval(), f"weak/{how.recipe.network}", data.classes)


def modelled(module: nn.Module, name: str, classes: tuple[str, ...]) -> Model:
    """A CIFAR-10 network as a model."""
    index, support = trace(module, torch.zeros(2, 3, 32, 32))
    spec = InputSpec("image", (3, 32, 32), MEAN, STD)
    return Model(module, Architecture(f"bases/{name}"), spec, "classification", classes, index, support)


@cache
def strong(seed: int) -> Model:
    """The cnn with its modules, split once for this code."""
    return split_once(base("cnn", seed), cifar10(), f"cnn-{seed}", seed)


def split_once(model: Model, data: Dataset, name: str, seed: int) -> Model:
    """A model with its modules, from the cache when this code has split it already."""
    folder = cache_folder() / f"modules-{name}-{code_digest('modules')}"
    if not (folder / part.LIST).exists():
        folder.mkdir(parents=True, exist_ok=True)
        plan = Split(samples=SAMPLES, tolerance=TOLERANCE)
        outcome = plan.operate([model], data.without_test(), Context(seed=seed))
        part.save(outcome.parts, folder)
    return replace(model, parts=part.load(folder))
