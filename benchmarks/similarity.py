"""What does it cost to compare every layer of two networks? Against their plain forward passes, and a package's way.

Two resnet18 at 32×32 of different weights, 1,000 images in batches of 250, all 21 convolutions and linear layers of
each: 441 pairs. Comparison and the two forward passes over the same images held in memory take turns; the figure is the
median ratio. The package torch_cka compares the same layers once in the same run. Exactness: against the estimator
written out as in the papers, in double precision, on two small networks.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.bases import CLASSES, MEAN, STD, DataMissing
from benchmarks.whatif import timed
from surgery.analysis.similarity import similarity
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model, Support

IMAGES, BATCH, SIDE = 1_000, 250, 32
ROUNDS, QUICK_ROUNDS = 7, 3
SPEC = InputSpec("image", (3, SIDE, SIDE), MEAN, STD)


def measure(*, quick: bool) -> dict[str, Any]:
    """Ratios to the forward passes; the quick form leaves the package out."""
    if not quick and importlib.util.find_spec("torch_cka") is None:
        raise DataMissing('The package torch_cka is compared with: pip install "model-surgery[rivals]".')
    data, models = images(), [network(seed) for seed in (0, 1)]
    layers = [name for name, part in models[0].module.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    ids, ctx = np.arange(IMAGES), Context()
    batches = [x for x, _, _ in data.batches(ids, SPEC, size=BATCH)]

    @torch.no_grad()
    def forward() -> None:
        for x in batches:
            for model in models:
                model(x)

    def compared() -> None:
        similarity(*models, data, ids, ctx, layers=(layers, layers), batch=BATCH)

    forward()
    ratios, passes = [], []
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        passes.append(timed(forward)[0])
        ratios.append(timed(compared)[0] / passes[-1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    rows = [
        {"way": "two forward passes", "seconds": statistics.median(passes), "ratio": 1.0, "quartiles": ""},
        {
            "way": f"all {len(layers) ** 2} pairs, here",
            "seconds": middle * statistics.median(passes),
            "ratio": middle,
            "quartiles": f"{low:.2f} – {high:.2f}",
        },
    ]
    if not quick:
        seconds = timed(lambda: package(models, batches, layers))[0]
        rows.append(
            {"way": "torch_cka", "seconds": seconds, "ratio": seconds / statistics.median(passes), "quartiles": ""}
        )
    return {"forward_ratio": middle, "difference_from_replica": replica_difference(), "table": rows}


def images() -> Dataset:
    """Random pictures: what is in them costs nothing."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    y = np.arange(IMAGES) % CLASSES
    return from_arrays(
        Path(tempfile.mkdtemp()) / "data", x, y, classes=tuple("abcdefghij"), name="noise", task="classification"
    )


def network(seed: int) -> Model:
    """resnet18 of random weights, in eval mode."""
    architecture = Architecture("torchvision/resnet18", {"num_classes": CLASSES})
    torch.manual_seed(seed)
    module = build(architecture).eval()
    return Model(module, architecture, SPEC, "classification", tuple("abcdefghij"), None, Support("inspect"))


def package(models: list[Model], batches: list[Tensor], layers: list[str]) -> None:
    """The same comparison by torch_cka."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_cka import CKA

        x = torch.cat(batches)
        loader = DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=BATCH)
        rival = CKA(models[0].module, models[1].module, "one", "other", layers, layers)
        with torch.no_grad():
            rival.compare(loader)
    for model in models:
        for part in model.module.modules():
            part._forward_hooks.clear()  # it leaves its own behind


def replica_difference() -> float:
    """The largest difference from the estimator written out, over all pairs of layers of two small networks."""
    torch.manual_seed(0)
    models = [Model(small(w), Architecture("small"), SPEC, "classification", tuple("ab"), None, Support("inspect"))
              for w in (8, 12)]  # fmt: skip
    data, layers, ids = images(), ("0", "2", "6"), np.arange(512)
    found = similarity(*models, data, ids, Context(seed=3), layers=(layers, layers), batch=128).value
    order = ids[np.random.default_rng(3).permutation(len(ids))]
    taken = [[[] for _ in layers] for _ in models]
    for x, _, _ in data.batches(order, SPEC, size=128):
        for model, kept in zip(models, taken, strict=True):
            out, module = x.double(), model.module.double()
            for number, part in enumerate(module):
                out = part(out).detach()
                if str(number) in layers:
                    kept[layers.index(str(number))].append(out.flatten(1))
    worst = 0.0
    for one in range(len(layers)):
        for other in range(len(layers)):
            written = literal(taken[0][one], taken[1][other])
            worst = max(worst, abs(float(found[one, other]) - written))
    return worst


def small(width: int) -> nn.Module:
    """Three layers."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, 10),
    ).eval()  # fmt: skip


def literal(one: list[Tensor], other: list[Tensor]) -> float:
    """Debiased linear CKA step by step: Gram, no diagonal, centred, no diagonal, sums over batches."""
    sums = [0.0, 0.0, 0.0]
    for x, y in zip(one, other, strict=True):
        a, b = centred(x @ x.T), centred(y @ y.T)
        for place, value in enumerate((float((a * b).sum()), float((a * a).sum()), float((b * b).sum()))):
            sums[place] += value
    return sums[0] / (sums[1] * sums[2]) ** 0.5


def centred(g: Tensor) -> Tensor:
    """G with zero diagonal; m_i = Σ_j G_ij ÷ (n − 2); m −= Σ m ÷ (2 (n − 1)); G_ij −= m_i + m_j; zero diagonal."""
    n = len(g)
    g = g - torch.diag(g.diagonal())
    m = g.sum(1) / (n - 2)
    m = m - m.sum() / (2 * (n - 1))
    g = g - m[:, None] - m[None, :]
    return g - torch.diag(g.diagonal())
