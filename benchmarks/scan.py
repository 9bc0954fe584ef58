"""What a scan with all its statistics costs, as a multiple of a plain no-grad forward over the same decoded batches.

Variants take turns, round by round; a ratio is the median over rounds. Beside it: keeping all activations and
computing the same afterwards, and captum's LayerActivation (which computes no statistics) in one call and layer by
layer. Peak memory is read in processes of their own, one per number of samples, on data that lies on disk.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LayerActivation
from torch import Tensor, nn

import sample_models
from surgery.analysis.scan import scan
from surgery.analysis.sources import sources
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.network import store
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace

BATCH = 256
COPIES = 8  # of the digits' 1,258 training images, so that a scan is as long as a real one: about 10,000
CLASSES = tuple(str(number) for number in range(10))
SAMPLES = (1_000, 10_000)


@dataclass(frozen=True)
class Decoded:
    """Images that are tensors already, so that only the model and the statistics are timed; else like a Dataset."""

    x: Tensor
    y: np.ndarray
    name: str = "decoded"
    digest: str = "decoded"
    kind: str = "images"
    task: str = "classification"
    classes: tuple[str, ...] = CLASSES

    @property
    def groups(self) -> tuple[str, ...]:
        """What samples are told apart by."""
        return self.classes

    def first(self, count: int) -> Decoded:
        """The first `count` images."""
        return replace(self, x=self.x[:count], y=self.y[:count])

    def repeated(self, copies: int) -> Decoded:
        """Every image `copies` times."""
        return replace(self, x=self.x.repeat(copies, 1, 1, 1), y=np.tile(self.y, copies))

    def ids(self, role: str) -> np.ndarray:
        """All of them."""
        return np.arange(len(self.x))

    def strata(self, ids: np.ndarray) -> np.ndarray:
        """The class of each."""
        return self.y[ids]

    def batches(self, ids: np.ndarray, spec: object, size: int = BATCH, device: str = "cpu") -> list[Any]:
        """(x, y, ids) per batch."""
        parts = [slice(start, start + size) for start in range(0, len(ids), size)]
        return [(self.x[part], None, torch.from_numpy(ids[part])) for part in parts]


Variant = Callable[[Model, Decoded], object]


def resnet18() -> Model:
    """torchvision's resnet18 for ten classes at 32×32; random weights, as only time is asked."""
    torch.manual_seed(0)
    architecture = Architecture("torchvision/resnet18", {"num_classes": 10})
    module = build(architecture).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # else hardly a neuron rests
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.2)
    index, support = trace(module, torch.zeros(2, 3, 32, 32), verify=False)
    spec = InputSpec("image", (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    return Model(module, architecture, spec, "classification", CLASSES, index, support)


def digits() -> tuple[Model, Decoded]:
    """The digits sample with all its training images, decoded."""
    model = store.load(sample_models.model_folder("digits"))
    with tempfile.TemporaryDirectory() as folder:
        data = sample_models.make_data("digits", Path(folder) / "data", Context())
        ids = data.ids("train")
        return model, Decoded(torch.cat([x for x, _, _ in data.batches(ids, model.input)]), data.labels(ids))


def noise(count: int) -> Decoded:
    """Random images for resnet18, with random classes."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((count, 3, 32, 32), dtype=np.float32)
    return Decoded(torch.from_numpy(x), generator.integers(0, 10, count))


def plain(model: Model, data: Decoded) -> None:
    """The forward pass alone."""
    with torch.no_grad():
        for x, _, _ in data.batches(data.ids("train"), None):
            model(x)


def keep_all(model: Model, data: Decoded) -> list[tuple[Tensor, ...]]:
    """Keep everything that layers receive, then compute the same statistics."""
    kept: dict[str, list[Tensor]] = {name: [] for name in model.index.layers}
    layers = {name: model.module.get_submodule(name) for name in kept}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: kept[name].append(args[0]))
        for name, layer in layers.items()
    ]
    plain(model, data)
    for hook in hooks:
        hook.remove()
    return [_statistics(torch.cat(kept[source.layer]), data.y) for source in sources(model.index)]


def _statistics(x: Tensor, y: np.ndarray) -> tuple[Tensor, ...]:
    maps = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)
    a, active = maps.mean(2), (maps > 0).float().mean(2)
    top = a.topk(9, dim=0).indices
    places = maps[top, torch.arange(maps.shape[1])].argmax(2)
    own = [torch.from_numpy(y == number) for number in range(len(CLASSES))]
    tables = [(a[o].mean(0), a[o].var(0), a[o].abs().mean(0), active[o].mean(0)) for o in own]
    return top, places, *(torch.stack(table) for table in zip(*tables, strict=True))


def captum(model: Model, data: Decoded, one_call: bool) -> None:
    """What the same layers receive, by captum."""
    layers = [model.module.get_submodule(name) for name in model.index.layers]
    asked = [layers] if one_call else layers
    attributions = [LayerActivation(model.module, layer) for layer in asked]
    with torch.no_grad():
        for x, _, _ in data.batches(data.ids("train"), None):
            for attribution in attributions:
                attribution.attribute(x, attribute_to_layer_input=True)


def seconds(run: Variant, model: Model, data: Decoded) -> float:
    """How long a run takes."""
    start = time.perf_counter()
    run(model, data)
    return time.perf_counter() - start


def ratios(model: Model, data: Decoded, rounds: int, slow_rounds: int) -> Iterator[dict[str, Any]]:
    """One row per variant: ratio to the plain forwards before and after it, median and interquartile range.

    The rivals run in `slow_rounds` of the rounds, captum layer by layer on one batch only.
    """
    one = data.first(BATCH)
    variants: dict[str, tuple[Variant, Decoded, int]] = {
        "scan": (lambda m, d: scan(m, d, Context(), batch=BATCH), data, rounds),
        "keep all activations": (keep_all, data, slow_rounds),
        "captum, one call": (partial(captum, one_call=True), data, slow_rounds),
        "captum, layer by layer": (partial(captum, one_call=False), one, slow_rounds),
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(-1, rounds):  # round −1 warms up
        for name, (run, images, most) in variants.items():
            if number < most and (number >= 0 or name == "scan"):
                before, own, after = (seconds(f, model, images) for f in (plain, run, plain))
                found[name] += [own / ((before + after) / 2)] if number >= 0 else []
    for name, values in found.items():
        low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        facts = {"variant": name, "samples": len(variants[name][1].x), "threads": torch.get_num_threads()}
        yield {**facts, "ratio": statistics.median(values), "IQR": high - low, "rounds": len(values)}


def peak(count: int, folder: Path) -> int:
    """Peak resident bytes of a fresh process that scans `count` samples of resnet18's size from disk."""
    command = [sys.executable, "-m", "benchmarks.scan", str(folder / str(count))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def memory(repeats: int) -> list[dict[str, Any]]:
    """Smallest peak over `repeats` processes for each number of samples."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        for count in SAMPLES:
            x = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            y, roles = np.arange(count) % 10, ["train"] * count
            from_arrays(folder / str(count), x, y, classes=CLASSES, name="noise", task="classification", roles=roles)
        peaks = {count: min(peak(count, folder) for _ in range(repeats)) for count in SAMPLES}
    facts = {"network": "resnet18", "variant": "peak memory of a scan"}
    return [{**facts, "samples": count, "MB": value / 1e6} for count, value in peaks.items()]


def scan_and_tell(folder: Path) -> None:
    """Scan a dataset with resnet18 and print this process's peak memory in bytes."""
    scan(resnet18(), Dataset.open(folder), Context(), batch=BATCH)
    status = Path("/proc/self/status")  # unlike getrusage it does not count what the parent had before exec
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(int(line.split()[1]) * 1024)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures and the table of both networks; the digits also in one pass over the sample's own training images."""
    model, own = digits()
    jobs = [
        ("resnet18", resnet18(), noise(1_024 if quick else 2_560), *((3, 1) if quick else (9, 2))),
        ("digits", model, own.repeated(COPIES), *((7, 1) if quick else (15, 3))),
        ("digits, own images only", model, own, *((15, 1) if quick else (60, 10))),
    ]
    table = []
    for name, patient, data, rounds, slow in jobs:
        table += [{"network": name, **row} for row in ratios(patient, data, rounds, slow)]
    figures = {f"{row['network']}_ratio": row["ratio"] for row in table if row["variant"] == "scan"}
    figures["digits_own_images_ratio"] = figures.pop("digits, own images only_ratio")
    peaks = memory(1 if quick else 3)
    few, many = (row["MB"] for row in peaks)
    return {**figures, "memory_growth": many / few - 1, "table": table + peaks}


if __name__ == "__main__":
    scan_and_tell(Path(sys.argv[1]))
