"""The text and the pinned language model of the benchmarks: characters of Shakespeare, a decoder of four blocks."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.bases import DataMissing, cache_folder
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import import_data
from surgery.edit.evaluate import losses
from surgery.edit.tune import tune
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace

CONTEXT = 64


@dataclass(frozen=True)
class Recipe:
    """How the base is made; its digest names the cached weights."""

    width: int = 64
    depth: int = 4
    heads: int = 4
    epochs: float = 16.0
    rate: float = 3e-3
    most: float = 1.55  # loss on test that it may have

    @property
    def digest(self) -> str:
        """Of everything that decides the weights."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:12]


RECIPE = Recipe()


@cache
def text() -> Dataset:
    """Shakespeare in windows, imported once into the cache.

    Raises:
        DataMissing: the file is not there.
    """
    folder = cache_folder() / f"text-{CONTEXT}"
    if not (folder / "dataset.json").exists():
        beside = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
        source = Path(os.environ.get("SURGERY_TEXT", beside))
        if not source.exists():
            raise DataMissing(
                f"There is no text at {source}. Put tinyshakespeare.txt there, or name it in SURGERY_TEXT."
            )
        import_data(source, folder, name="Shakespeare", context=CONTEXT)
    return Dataset.open(folder)


@cache
def base(seed: int) -> Model:
    """The trained base, from the cache when it is there."""
    data, recipe = text(), RECIPE
    sizes = {"alphabet": len(data.classes), "context": CONTEXT}
    sizes |= {"width": recipe.width, "depth": recipe.depth, "heads": recipe.heads}
    architecture = Architecture("text/decoder", sizes)
    torch.manual_seed(seed)
    module = build(architecture).eval()
    spec = InputSpec("text", (CONTEXT,), alphabet=data.classes)
    index, support = trace(module, spec.example(2))
    model = Model(module, architecture, spec, "classification", data.classes, index, support)
    file = cache_folder() / f"base-decoder-{recipe.digest}-{seed}.pt"
    if file.exists():
        module.load_state_dict(torch.load(file, weights_only=True))
    else:
        trained = tune(model, data.without_test(), Context(seed=seed), epochs=recipe.epochs, rate=recipe.rate)
        torch.save(trained.module.state_dict(), file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
        model = replace(model, module=trained.module)
    reached = loss(model, "test")
    if reached > recipe.most:
        raise RuntimeError(f"The language model of seed {seed} has a loss of {reached:.3f} on test, not {recipe.most}.")
    return model


def loss(model: Model, role: str) -> float:
    """Nats per character on a role."""
    data = text()
    ids: np.ndarray = data.ids(role)
    return float(losses(model, data, ids, Context()).double().mean())
