"""Pinned networks that claims are tried on: architecture, recipe and least test accuracy, trained once per recipe.

An undertrained or oversized base makes any method look good. A base is kept in the cache under the digest of its
recipe; training goes on from the last finished epoch after a cut, and a base below its accuracy is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rows import cache_folder
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.data.load import import_data
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 128
SHIFT = 4  # pixels of random translation in training
Made = Callable[[int], nn.Module]  # of so many classes


class DataMissing(Exception):
    """A benchmark's data is not there; the message says how to get it."""


@dataclass(frozen=True)
class Recipe:
    """How a base is made: SGD with Nesterov momentum, OneCycle, mirrored and shifted pictures."""

    network: str
    epochs: int
    rate: float
    least: float  # accuracy on test below which a base is refused
    decay: float = 5e-4
    half: bool = False  # it learns the first half of the classes only

    @property
    def digest(self) -> str:
        """Names the recipe."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


RECIPES = {
    "cnn": Recipe("cnn", epochs=7, rate=0.1, least=0.76),
    "thin_resnet": Recipe("thin_resnet", epochs=7, rate=0.1, least=0.74),
    "resnet18": Recipe("resnet18", epochs=10, rate=0.05, least=0.72),
    "even_resnet": Recipe("even_resnet", epochs=7, rate=0.1, least=0.74),
    "cnn_half": Recipe("cnn", epochs=10, rate=0.1, least=0.78, half=True),
}
CLASSES = 10


class Block(nn.Module):
    """relu(short(x) + second(relu(first(x)))), all normalised."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = normed(c_in, c_out, stride), normed(c_out, c_out)
        self.short = nn.Identity() if stride == 1 and c_in == c_out else normed(c_in, c_out, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """float[b, c_in, h, w] to float[b, c_out, h ÷ stride, w ÷ stride]."""
        out: Tensor = (self.short(x) + self.second(self.first(x).relu())).relu()
        return out


def normed(c_in: int, c_out: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    """A convolution and its normalisation."""
    convolution = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out))


def cnn(classes: int = CLASSES) -> nn.Module:
    """Six convolutions of 32/s2, 48, 64/s2, 96, 128/s2 and 128 channels, mean over space, one linear layer."""
    widths = ((3, 32, 2), (32, 48, 1), (48, 64, 2), (64, 96, 1), (96, 128, 2), (128, 128, 1))
    layers = [part for c_in, c_out, stride in widths for part in (normed(c_in, c_out, stride), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def thin_resnet(classes: int = CLASSES) -> nn.Module:
    """A stem and three residual blocks of 16, 32 and 64 channels."""
    blocks = [Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    return nn.Sequential(normed(3, 16), nn.ReLU(), *blocks, *end)


def even_resnet(classes: int = CLASSES) -> nn.Module:
    """A stem and nine residual blocks of 32 channels, three each at 16 × 16, 8 × 8 and 4 × 4."""
    blocks = [Block(32, 32, 2 if place in (3, 6) else 1) for place in range(9)]
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))
    return nn.Sequential(normed(3, 32, 2), nn.ReLU(), *blocks, *end)


def resnet18(classes: int = CLASSES) -> nn.Module:
    """torchvision's, at 32 × 32."""
    return build(Architecture("torchvision/resnet18", {"num_classes": classes}))


NETWORKS: dict[str, Made] = {
    "cnn": cnn,
    "thin_resnet": thin_resnet,
    "even_resnet": even_resnet,
    "resnet18": resnet18,
}
ARCHITECTURES = NETWORKS  # for a process that is told of this file as an operator's


def cifar10() -> Dataset:
    """CIFAR-10 as the product imports it: the given test split, 15 % of the rest for validation.

    Raises:
        DataMissing: saying where it is looked for.
    """
    folder = cache_folder() / "cifar10"
    if not (folder / "dataset.json").exists():
        beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10.zip"
        source = Path(os.environ.get("SURGERY_CIFAR10", beside))
        if not source.exists():
            raise DataMissing(
                f"CIFAR-10 is not at {source}. Put it there as a zip of train/CLASS/*.jpg and test/CLASS/*.jpg, or "
                "name it in SURGERY_CIFAR10."
            )
        folder.mkdir(parents=True, exist_ok=True)
        import_data(source, folder, name="CIFAR-10")
    return Dataset.open(folder)


@cache
def half(second: bool) -> Dataset:
    """CIFAR-10 with the first five or the last five of its classes, in the same roles."""
    data = cifar10()
    folder = cache_folder() / f"cifar10-half-{int(second)}"
    if not (folder / "dataset.json").exists():
        roles = {int(i): role for role in data.counts() for i in data.ids(role)}
        ids = np.array(sorted(roles))
        first = CLASSES // 2 if second else 0
        own = ids[(data.labels(ids) >= first) & (data.labels(ids) < first + CLASSES // 2)]
        from_arrays(
            folder,
            data.raw(own),
            data.labels(own) - first,
            classes=data.classes[first : first + CLASSES // 2],
            name=f"CIFAR-10, {'last' if second else 'first'} five classes",
            task="classification",
            roles=[roles[int(i)] for i in own],
        )
    return Dataset.open(folder)


def base(name: str, seed: int) -> Model:
    """The trained base, from the cache when it is there."""
    recipe = RECIPES[name]
    file = cache_folder() / f"base-{name}-{recipe.digest}-{seed}.pt"
    data = half(second=False) if recipe.half else cifar10()
    torch.manual_seed(seed)
    module = NETWORKS[recipe.network](len(data.classes))
    if file.exists():
        module.load_state_dict(torch.load(file, weights_only=True))
    else:
        train(module, recipe, data, seed, file)
    module.eval()
    index, support = trace(module, torch.zeros(2, 3, 32, 32))
    spec = InputSpec("image", (3, 32, 32), MEAN, STD)
    model = Model(module, Architecture(f"bases/{name}"), spec, "classification", data.classes, index, support)
    reached = accuracy(model, data, data.ids("test"))
    if reached < recipe.least:
        raise RuntimeError(f"The base {name} of seed {seed} reaches {reached:.3f} on test, not {recipe.least}.")
    return model


def accuracy(model: Model, data: Dataset, ids: np.ndarray) -> float:
    """The share of samples that are answered right."""
    truth = torch.as_tensor(data.labels(ids))
    with torch.inference_mode():
        answers = torch.cat([model(x).argmax(1) for x, _, _ in data.batches(ids, model.input, size=500)])
    return float((answers == truth).double().mean())


def train(
    module: nn.Module, recipe: Recipe, data: Dataset, seed: int, target: Path, ids: np.ndarray | None = None
) -> None:
    """Train from scratch, or from the last finished epoch; the result is put in place at once.

    ids: the samples, by default all of role train.
    """
    ids = data.ids("train") if ids is None else ids
    pictures, labels = torch.from_numpy(data.raw(ids)), torch.from_numpy(data.labels(ids))
    optimizer = torch.optim.SGD(module.parameters(), recipe.rate, 0.9, weight_decay=recipe.decay, nesterov=True)
    steps = -(-len(ids) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.epochs * steps)
    part = target.with_suffix(".part")
    done = 0
    if part.exists():
        state = torch.load(part, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = state["epoch"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    for epoch in range(done, recipe.epochs):
        start, generator = time.monotonic(), torch.Generator().manual_seed(1000 * seed + epoch)
        module.train()
        for chosen in torch.randperm(len(ids), generator=generator).split(BATCH):
            x = pictures[chosen].permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
            loss = F.cross_entropy(module(moved(x, generator)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"{recipe.network} seed {seed}: epoch {epoch + 1}, {time.monotonic() - start:.0f} s", flush=True)
        state = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "schedule": schedule.state_dict(), "epoch": epoch + 1}, part)
    torch.save(module.state_dict(), target.with_suffix(".new"))
    target.with_suffix(".new").replace(target)
    part.unlink(missing_ok=True)


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures mirrored, the batch shifted by at most SHIFT pixels."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    top, left = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    return F.pad(x, (SHIFT,) * 4)[:, :, top : top + x.shape[2], left : left + x.shape[3]]
