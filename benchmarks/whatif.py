"""How long does a person wait for a what-if? Against a plain forward pass, and end to end through the probe.

resnet18, 1,000 probe images of 32×32: for every layer in the last third, 30 % of its removable neurons with all that
are coupled to them; whole previews (resolve, silence, shrink, count) and what-ifs are timed in turn with the forward
pass over the same batches held in memory, round by round. The figure is the worst layer's median ratio.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sample_models
from benchmarks.reference import torch_import
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.jobs import probe
from surgery.jobs.whatif import WhatIf
from surgery.network import store
from surgery.network.architectures import build
from surgery.network.certificate import sample as random_cut
from surgery.network.index import NeuronIndex
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from surgery.workspace import Workspace

SHARE = 0.3
IMAGES = 1_000
ROUNDS, QUICK_ROUNDS = 7, 3
CLASSES = tuple("abcdefghij")


def measure(*, quick: bool) -> dict[str, Any]:
    """The worst ratio over the last third of resnet18, and the slowest preview of a sample ÷ importing torch."""
    with tempfile.TemporaryDirectory() as home:
        ws = Workspace(Path(home))
        project = ws.create_project("What-if").id
        late = late_third(ws, project, QUICK_ROUNDS if quick else ROUNDS)
        samples = [sample(ws, project, name) for name in sample_models.names()]
    return {
        "late_third_ratio": max(row["preview ÷ forward"] for row in late),
        "samples_ratio": max(row["preview s"] for row in samples) / torch_import(),
        "table": [*late, *samples],
    }


def late_third(ws: Workspace, project: str, rounds: int) -> list[dict[str, Any]]:
    """One row per layer of the last third of resnet18."""
    whatif = WhatIf.open(ws, commit_resnet(ws, project), draw_images(ws, project))
    whatif.means()  # what a warm probe has
    index = whatif.recording.model.index
    assert index is not None
    names = list(index.layers)
    batches = list(whatif.recording.batches)

    @torch.no_grad()
    def forward() -> None:
        for x in batches:
            whatif.recording.model(x)

    rows = []
    for number in range(2 * len(names) // 3, len(names)):
        if remove := chosen(index, number):
            plan = {"operation": "prune", "parameters": {"remove": remove}}
            ratios, answer = interleaved(whatif, remove, plan, forward, rounds)
            rows.append({"layer": names[number], "removed": answer["removed"], **ratios, "skipped": answer["from_cut"]})
    return rows


def interleaved(
    whatif: WhatIf, remove: list[int], plan: dict[str, Any], forward: Callable[[], None], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Median ratios to the forward pass with their quartiles, and a preview's answer."""
    whats, previews = [], []
    for _ in range(rounds):
        base, _ = timed(forward)
        whats.append(timed(lambda: whatif.whatif(remove))[0] / base)
        seconds, answer = timed(lambda: whatif.preview(plan))
        previews.append(seconds / base)
    low, middle, high = statistics.quantiles(previews, n=4)
    ratios = {"what-if ÷ forward": statistics.median(whats), "preview ÷ forward": middle}
    return {**ratios, "quartiles": f"{low:.2f} – {high:.2f}"}, answer


def sample(ws: Workspace, project: str, name: str) -> dict[str, Any]:
    """Seconds of a preview of 30 % of a sample's neurons, asked of a real probe; and of its first start."""
    model = store.load(sample_models.model_folder(name))
    assert model.index is not None
    version = ws.commit(project, model, name=name).id
    dataset = ws.add_dataset(project, name, lambda folder: sample_models.make_data(name, folder, Context())).id
    remove = (~random_cut(model.index, SHARE)).nonzero().flatten().tolist()
    question = {"what": "preview", "plan": {"operation": "prune", "parameters": {"remove": remove}}}
    try:
        cold, _ = timed(lambda: probe.ask(ws, version, dataset, question))
        warm = [timed(lambda: probe.ask(ws, version, dataset, question)) for _ in range(5)]
    finally:
        probe.stop(ws, version, dataset)
    seconds = [each for each, _ in warm]
    return {"layer": f"{name}: all layers", "removed": warm[0][1]["removed"], "preview s": max(seconds), "cold s": cold}


def chosen(index: NeuronIndex, number: int) -> list[int]:
    """A seeded SHARE of the removable neurons that layer `number` writes; at least one is left."""
    free = ((index.layer_of == number) & ~index.fixed).nonzero().flatten()
    order = torch.randperm(len(free), generator=torch.Generator().manual_seed(number))
    return free[order[: min(round(SHARE * len(free)), len(free) - 1)]].tolist() if len(free) else []


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def commit_resnet(ws: Workspace, project: str) -> str:
    """torchvision's resnet18 for ten classes with seeded random weights."""
    torch.manual_seed(0)
    architecture = Architecture("torchvision/resnet18", {"num_classes": len(CLASSES)})
    module = build(architecture).eval()
    index, support = trace(module, torch.randn(1, 3, 32, 32))
    spec = InputSpec("image", (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    model = Model(module, architecture, spec, "classification", CLASSES, index, support)
    return ws.commit(project, model, name="resnet18").id


def draw_images(ws: Workspace, project: str) -> str:
    """Noise: 1,000 images to probe and as many to train on; timing does not depend on what they show."""
    x = np.random.default_rng(0).integers(0, 256, (2 * IMAGES, 32, 32, 3), dtype=np.uint8)
    y = np.arange(2 * IMAGES) % len(CLASSES)
    roles = ["val"] * IMAGES + ["train"] * IMAGES

    def make(folder: Path) -> Dataset:
        return from_arrays(folder, x, y, classes=CLASSES, name="noise", task="classification", roles=roles)

    return ws.add_dataset(project, "noise", make).id
