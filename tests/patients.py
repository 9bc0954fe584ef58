"""Small models of a known architecture, which unlike those of tests/pico.py can be saved and loaded."""

from __future__ import annotations

import torch

from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace

SIZES = (4, 8, 6, 3)


def mlp(sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Model:
    """An MLP of random weights on tables of `sizes[0]` features."""
    architecture = Architecture("mlp", {"sizes": list(sizes)})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(architecture).eval()
    features, classes = sizes[0], tuple(f"class {number}" for number in range(sizes[-1]))
    index, support = trace(module, torch.zeros(1, features))
    spec = InputSpec("table", (features,), (0.0,) * features, (1.0,) * features)
    return Model(module, architecture, spec, "classification", classes, index, support)
