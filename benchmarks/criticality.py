"""All five scores of all neurons, as a multiple of one forward and backward pass with weight gradients.

Variants take turns, round by round; a ratio is the median over rounds. Decoded random images of CIFAR-10's size serve,
as only time is asked. captum's LayerDeepLift and LayerConductance run on few images and one layer in three, and are
scaled to all layers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerConductance, LayerDeepLift
from torch import nn

from benchmarks.scan import Decoded, noise, resnet18
from surgery.analysis.criticality import by_gradient, criticality
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.network.model import Model

BATCH = 128
IMAGES = 2_000
RIVAL_IMAGES = 16
STEPS = 50  # of LayerConductance, captum's default


@dataclass(frozen=True)
class Labelled(Decoded):
    """Decoded images with their classes."""

    def batches(self, ids: np.ndarray, spec: object, size: int = BATCH, device: str = "cpu") -> list[Any]:
        """(x, y, ids) per batch."""
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        return [(self.x[part], torch.from_numpy(self.y[part]), torch.from_numpy(part)) for part in parts]


def trained(model: Model, data: Labelled) -> None:
    """One forward and backward with weight gradients over all images: a training epoch without its steps."""
    for x, y, _ in data.batches(data.ids("train"), None):
        model.module.zero_grad()
        F.cross_entropy(model.module(x), y).backward()


def plain(model: Model, data: Labelled) -> None:
    """One forward without gradients."""
    with torch.no_grad():
        for x, _, _ in data.batches(data.ids("train"), None):
            model.module(x)


def five(model: Model, data: Labelled) -> None:
    """A scan, then the two scores that need gradients."""
    found = scan(model, data, Context(), batch=BATCH)
    criticality(model, data, found, Context(), limit=len(data.x), batch=BATCH)


def seconds(run: Callable[[], object]) -> float:
    """How long a run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rivals(model: Model, data: Labelled) -> dict[str, float]:
    """Seconds per image that captum would take over all layers that read neurons."""
    names = list(model.index.layers)[1:]
    chosen = names[::3]
    x, y = data.x[:RIVAL_IMAGES], torch.from_numpy(data.y[:RIVAL_IMAGES])
    unshared(model.module)
    found = {}
    for name, kind, options in (
        ("captum LayerDeepLift", LayerDeepLift, {"baselines": torch.zeros_like(x)}),
        ("captum LayerConductance", LayerConductance, {"n_steps": STEPS, "internal_batch_size": BATCH}),
    ):
        spent = 0.0
        for layer in chosen:
            method = kind(model.module, model.module.get_submodule(layer))
            start = time.perf_counter()
            method.attribute(x, target=y, attribute_to_layer_input=True, **options)
            spent += time.perf_counter() - start
        found[name] = spent / len(chosen) * len(names) / len(x)
    return found


def unshared(module: nn.Module) -> None:
    """Give every call of a ReLU its own module, as captum's DeepLift demands; for resnet's blocks."""
    for part in list(module.modules()):
        if hasattr(part, "bn2"):
            relu, second = nn.ReLU(), nn.ReLU()
            part.relu, part.second = relu, second

            def forward(x: torch.Tensor, part: Any = part) -> torch.Tensor:
                out = part.bn2(part.conv2(part.relu(part.bn1(part.conv1(x)))))
                return part.second(out + (x if part.downsample is None else part.downsample(x)))

            part.forward = forward
    module.relu = nn.ReLU()


def measure(*, quick: bool) -> dict[str, Any]:
    """The ratio for resnet18, its parts, and what captum would take."""
    model, images = resnet18(), noise(512 if quick else IMAGES)
    data = Labelled(images.x, images.y)
    found = scan(model, data.first(BATCH), Context(), batch=BATCH)
    variants: dict[str, Callable[[], object]] = {
        "forward": lambda: plain(model, data),
        "scan": lambda: scan(model, data, Context(), batch=BATCH),
        "Taylor and DeepLIFT": lambda: by_gradient(model, data, found, Context(), limit=len(data.x), batch=BATCH),
        "all five scores": lambda: five(model, data),
    }
    rounds = 2 if quick else 7
    ratios: dict[str, list[float]] = {name: [] for name in variants}
    base = []
    for number in range(-1, rounds):
        for name, run in variants.items():
            before, own, after = (seconds(f) for f in (lambda: trained(model, data), run, lambda: trained(model, data)))
            if number >= 0:
                ratios[name].append(own / ((before + after) / 2))
                base.append((before + after) / 2)
    unit = statistics.median(base) / len(data.x)
    table = [
        {"variant": name, "images": len(data.x), "ratio": statistics.median(values), "rounds": rounds}
        for name, values in ratios.items()
    ]
    for name, each in rivals(model, data).items():
        table.append({"variant": f"{name}, scaled", "images": RIVAL_IMAGES, "ratio": each / unit, "rounds": 1})
    return {"five_scores_ratio": table[3]["ratio"], "threads": torch.get_num_threads(), "table": table}
