"""Small models of a known architecture, which unlike those of tests/pico.py can be saved and loaded."""

from __future__ import annotations

import copy
import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from surgery.context import Context
from surgery.edit.tune import tune
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from surgery.operations.split import Split
from tests.conftest import DRAWINGS, SIDES, drawn, written

SIZES = (4, 8, 6, 3)


def mlp(sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Model:
    """An MLP of random weights on tables of `sizes[0]` features."""
    architecture = Architecture("mlp", {"sizes": list(sizes)})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(architecture).eval()
    features = sizes[0]
    classes = SIDES if sizes[-1] == len(SIDES) else tuple(f"class {number}" for number in range(sizes[-1]))
    index, support = trace(module, torch.zeros(1, features))
    spec = InputSpec("table", (features,), (0.0,) * features, (1.0,) * features)
    return Model(module, architecture, spec, "classification", classes, index, support)


def digits(widths: tuple[int, ...] = (4, 6, 5)) -> Model:
    """A small CNN of random weights on the drawings of `pico_images`."""
    torch.manual_seed(0)
    architecture = Architecture("sample/digits_cnn", {"widths": list(widths), "classes": 3})
    module = build(architecture).eval()
    index, support = trace(module, torch.zeros(1, 1, 8, 8))
    spec = InputSpec("image", (1, 8, 8), (0.5,), (0.5,))
    return Model(module, architecture, spec, "classification", DRAWINGS, index, support)


@functools.cache
def split_digits() -> Model:
    """One that has learned the drawings, with the modules that it was split into."""
    with tempfile.TemporaryDirectory() as folder:
        data = drawn(Path(folder) / "images").without_test()
        model = tune(digits((8, 12, 16)), data, Context(seed=1), epochs=60, rate=1e-2)
        parts = Split(cycles=0, tolerance=10).operate([model], data, Context()).parts
    return replace(model, parts=parts)


@functools.cache
def fleet() -> tuple[Model, Model, Model]:
    """One that has learned the drawings, what further training has made of it, and a stranger of other widths."""
    with tempfile.TemporaryDirectory() as folder:
        data = drawn(Path(folder) / "images").without_test()
        first = replace(split_digits(), parts=())
        further = tune(first, data, Context(seed=7), epochs=3, rate=1e-3)
        stranger = tune(digits((6, 10, 12)), data, Context(seed=2), epochs=60, rate=1e-2)
    return first, further, stranger


def ignorant(model: Model) -> Model:
    """A network of the same form that knows nothing."""
    module = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return replace(model, module=module)


@functools.cache
def writer(epochs: float = 6) -> Model:
    """A language model of two heads and 24 hidden units that has learned the sentences of `pico_text`."""
    with tempfile.TemporaryDirectory() as folder:
        data = written(Path(folder) / "text").without_test()
        sizes = {"alphabet": len(data.classes), "context": 12, "width": 16, "depth": 1, "heads": 2, "hidden": 24}
        architecture = Architecture("text/decoder", sizes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = build(architecture).eval()
        spec = InputSpec("text", (12,), alphabet=data.classes)
        index, support = trace(module, spec.example(2))
        model = Model(module, architecture, spec, "classification", data.classes, index, support)
        return tune(model, data, Context(), epochs=epochs, rate=1e-2, batch=32) if epochs else model
