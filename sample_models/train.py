"""Trains the sample models: `python -m sample_models.train [NAME ...]`, a few seconds to half a minute each on a CPU.

Everything that decides the result stands in `sample_models/NAME/sample.json`. Weights come from the train role only;
nothing was chosen on test, which is opened once, by `surgery.measure`, for the numbers on the card.
"""

from __future__ import annotations

import copy
import json
import platform
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import sample_models
from sample_models.card import card
from surgery.context import Context
from surgery.measure import measure
from surgery.network import part, store
from surgery.network.architectures import build
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec, Model, lessons
from surgery.operations.split import Split

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset


def train(name: str, data: Dataset, ctx: Context) -> Model:
    """Train the sample `name` on the train role of its data set; the same seed gives the same weights on a machine."""
    return _trained(name, sample_models.info(name), data, ctx)


def _trained(name: str, facts: dict[str, Any], data: Dataset, ctx: Context) -> Model:
    architecture = Architecture(**facts["architecture"])
    mean, std = data.statistics("train")
    kind: Any = {"images": "image"}.get(data.kind, data.kind)
    spec = InputSpec(kind, data.shape, mean, std, data.classes if kind == "text" else ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(facts["training"]["seed"])
        module = build(architecture)
    fit(module, data, spec, facts["training"], ctx, _ids(data, facts.get("starved")))
    return assemble(
        module.state_dict(),
        architecture,
        input=spec,
        classes=data.classes,
        task=facts["task"],
        origin=sample_models.origin(name),
    )


def _ids(data: Dataset, starved: dict[str, Any] | None) -> np.ndarray:
    """The training samples: all, or of one class only a share, the same every time."""
    ids = data.ids("train")
    if starved is None:
        return ids
    own = data.labels(ids) == data.classes.index(starved["class"])
    few = np.random.default_rng(0).permutation(ids[own])[: round(starved["share"] * own.sum())]
    return np.sort(np.concatenate([ids[~own], few]))


def fit(
    module: nn.Module, data: Dataset, spec: InputSpec, training: dict[str, Any], ctx: Context, ids: np.ndarray
) -> None:
    """Train in place on samples `ids`: AdamW under a one-cycle rate, every epoch in a new seeded order.

    A regression learns the standardised target, whose scale is folded into the last layer at the end, so that the
    network gives the target's own unit.
    """
    center, scale = _target_scale(data)
    steps = training["epochs"] * -(-len(ids) // training["batch"])
    optimizer = torch.optim.AdamW(module.parameters(), lr=training["rate"], weight_decay=training["decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training["rate"], total_steps=steps)
    module.train()
    for epoch in ctx.track(range(training["epochs"]), "training"):
        order = training["seed"] + epoch
        for x, _, samples in data.batches(ids, spec, size=training["batch"], seed=order):
            y = torch.from_numpy(data.labels(samples))
            loss = _loss(*lessons(x, y, module(x)), center, scale)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        ctx.point(loss=loss.item())
    module.eval()
    if data.task == "regression":
        _fold(module, center, scale)


def _target_scale(data: Dataset) -> tuple[float, float]:
    """Mean and deviation of a regression's training targets; 0 and 1 for classes."""
    if data.task != "regression":
        return 0.0, 1.0
    targets = data.labels(data.ids("train"))
    return float(targets.mean()), float(targets.std())


def _loss(out: Tensor, y: Tensor, center: float, scale: float) -> Tensor:
    """Cross entropy of logits float[b, classes], or squared error of float[b, 1] against standardised y float[b]."""
    if y.is_floating_point():
        return functional.mse_loss(out[:, 0], (y - center) / scale)
    return functional.cross_entropy(out, y)


@torch.no_grad()
def _fold(module: nn.Module, center: float, scale: float) -> None:
    """Let the last linear layer give `center + scale · out`."""
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    last.weight.mul_(scale)
    last.bias.mul_(scale).add_(center)


def results(model: Model, data: Dataset, ctx: Context) -> dict[str, Any]:
    """What the card says: the quality on the test role, with its n, and the size, all from `surgery.measure`."""
    rows = measure({"sample": model}, data, ctx, latency=False).rows
    overall = {row["metric"]: row for row in rows[rows["scope"] == "overall"].to_dict("records")}
    metrics = [metric for metric in ("accuracy", "loss", "r2", "mse") if metric in overall]
    first = overall[metrics[0]]
    return {
        "metrics": {metric: round(overall[metric]["value"], 4) for metric in metrics},
        "split": first["split"],
        "n": first["n"],
        "counts": data.counts(),
        "parameters": int(overall["parameters"]["value"]),
        "data": data.digest,
        "torch": torch.__version__.split("+")[0],
        "machine": processor(),
    }


def processor() -> str:
    """The kind of processor, as far as rounding depends on it: "x86_64 AVX2"."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def make(name: str, ctx: Context) -> None:
    """Train one sample and write its folder: model, results.json, card.md."""
    folder = sample_models.model_folder(name)
    with tempfile.TemporaryDirectory() as scratch:
        data = sample_models.make_data(name, Path(scratch) / "data", ctx)
        model = train(name, data, ctx)
        measured = results(model, data, ctx)
        for member in sample_models.info(name).get("members", ()):
            _accompany(name, model, member, data, folder / member["folder"], ctx)
    measured["digest"] = store.save(model, folder)
    (folder / "results.json").write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    (folder / "card.md").write_text(card(name, sample_models.info(name)), "utf-8")
    print(f"{name}: {measured['metrics']} on {measured['n']} {measured['split']} samples")


def _accompany(name: str, model: Model, member: dict[str, Any], data: Dataset, folder: Path, ctx: Context) -> None:
    """Write a model beside a sample's own: another sample's in modules, one of its own training, or the sample's own
    trained further on half of the samples.
    """
    if "sample" in member:
        _donate(member["sample"], data, folder, ctx)
    elif "architecture" in member:
        store.save(_trained(name, {**sample_models.info(name), **member}, data, ctx), folder)
    else:
        ids = np.random.default_rng(member["training"]["seed"]).permutation(data.ids("train"))
        module = copy.deepcopy(model.module)
        fit(module, data, model.input, member["training"], ctx, np.sort(ids[::2]))
        store.save(replace(model, module=module), folder)


def _donate(name: str, data: Dataset, folder: Path, ctx: Context) -> None:
    """Split another sample's model, and write it with its modules and their tables."""
    model = store.load(sample_models.model_folder(name))
    outcome = Split.model_validate({}).operate([model], data.without_test(), ctx)
    store.save(model, folder)
    part.save(outcome.parts, folder)
    (folder / "tables").mkdir(exist_ok=True)
    for title, table in outcome.tables.items():
        table.to_parquet(folder / "tables" / f"{title}.parquet")


def main(names: list[str]) -> None:
    """Train the named samples, or all."""
    for name in names or sample_models.names():
        make(name, Context())


if __name__ == "__main__":
    main(sys.argv[1:])
