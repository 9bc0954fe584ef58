"""Do modules of a CNN, put together again, answer like the CNN with far fewer neurons in each?

The cnn on CIFAR-10 is split into ten modules on 10,000 training samples by each method, with the defaults but a
tolerance of 1.5 points on validation: at most 14 epochs of masks and heads (19 with GradSplitter's first heads).
Neurons gone are the mean over modules of those that can go. Accuracy on test is that of the modules together, against
the cnn's own.

An epoch's cost: seconds of all training epochs of the cycles ÷ their number ÷ (K × one forward and backward pass of the
cnn over the same samples, batches of 64). What the first layers say is computed once (share of the calls skipped).
Mask epochs to the tolerance: until 30 % of the neurons are gone within it; 0 = the warm start alone; one more than were
run where it was not reached.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.bases import accuracy, base, cifar10
from benchmarks.rows import row
from surgery.context import Context
from surgery.edit.compose import cut_out
from surgery.edit.gate import gate
from surgery.operations.base import Outcome
from surgery.operations.division import Division
from surgery.operations.learned import HEAD_EPOCHS, MASK_EPOCHS
from surgery.operations.split import Split

SEEDS, METHODS = (0, 1, 2), ("semantic", "gradient", "genetic")
SAMPLES, GONE, BATCH = 10_000, 0.30, 64
TOLERANCE = 1.5  # points on validation: of many steps the luckiest is taken, and 2 are to hold on test
QUICK = {"samples": 1_000, "cycles": 1, "generations": 2}


class Clock:
    """Seconds of every stage that a context reports."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self.last = ""

    def __call__(self, event: Any) -> None:
        """One event."""
        if "stage" not in event:
            return
        name = str(event["stage"])
        if event["done"] == 0:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.done.pop(name, 0.0)
        self.done[name] = float(event["seconds"])

    def total(self, beginning: str) -> float:
        """Of all stages whose name begins so."""
        names = {name for name in self.done if name.startswith(beginning)}
        return sum(self.seconds.get(name, 0.0) + self.done[name] for name in names)


@cache
def whole_step(seed: int, samples: int) -> float:
    """Seconds of one forward and backward pass of the cnn over so many training samples; the quicker of two."""
    model, data = base("cnn", seed), cifar10()
    ids = data.ids("train")[:samples]
    batches = [(x, y) for x, y, _ in data.batches(ids, model.input, size=BATCH)]
    times = []
    for _ in range(2):
        start = time.perf_counter()
        for x, y in batches:
            model.module.zero_grad()
            F.cross_entropy(model(x), y).backward()
        times.append(time.perf_counter() - start)
    return min(times)


def extraction(outcome: Outcome) -> float:
    """The largest difference of a module taken out from its masked network, on 500 test samples."""
    model, data = outcome.models[0], cifar10()
    x = next(iter(data.batches(data.ids("test")[:500], model.input, size=500)))[0]
    worst = 0.0
    with torch.no_grad():
        for part in outcome.parts:
            with gate(model.module, model.index, part.keep.float(), part.means):
                masked = model(x)
            worst = max(worst, float((cut_out(model, part)(x) - masked).abs().max()))
    return worst


def epochs_to(work: Division) -> int:
    """Mask epochs until enough is gone within the tolerance."""
    epochs = 0
    for step in work.steps:
        epochs += "masks" in step.name
        if work.within(step) and step.share <= 1 - GONE:
            return epochs
    return epochs + 1


def one(method: str, seed: int, given: dict[str, Any]) -> dict[str, Any]:
    """One line: what a method makes of one cnn."""
    model, data, clock = base("cnn", seed), cifar10(), Clock()
    plan = Split(method=method, **{"samples": SAMPLES, "tolerance": TOLERANCE, **given})
    work = plan.on(model, data.without_test(), Context(seed=seed, report=clock))
    start = time.monotonic()
    outcome = work.run()
    seconds = time.monotonic() - start
    assert outcome.assembled is not None
    before, after = (accuracy(one, data, data.ids("test")) for one in (model, outcome.assembled))
    best, learned = work.best(), method != "genetic"
    epochs = plan.cycles * (MASK_EPOCHS + HEAD_EPOCHS)
    spent = clock.total("learning masks") + clock.total("computing what heads see") + clock.total("teaching heads")
    cost = spent / epochs / (len(model.classes) * whole_step(seed, plan.samples)) if learned and epochs else None
    sizes = [part.figures["bytes"] for part in outcome.parts]
    return {
        "method": method,
        "seed": seed,
        "lost on validation": round(100 * (work.accuracy - best.accuracy), 2),
        "lost on test": round(100 * (before - after), 2),
        "gone %": round(100 * (1 - best.share), 1),
        "chosen": best.name,
        "module kB": round(float(np.mean(sizes)) / 1000, 1),
        "epoch cost": cost and round(cost, 3),
        "mask epochs to tolerance": epochs_to(work) if learned else None,
        "extraction": extraction(outcome),
        "seconds": round(seconds),
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures of the semantic method, beside those of the others; the quick form splits one cnn once."""
    seeds, methods, given = (SEEDS[:1], METHODS[:1], QUICK) if quick else (SEEDS, METHODS, {})
    table = [row("split", f"{m}/{s}/{given}", lambda m=m, s=s: one(m, s, given)) for m in methods for s in seeds]

    def mean(method: str, column: str) -> float:
        return float(np.mean([line[column] for line in table if line["method"] == method]))

    figures = {
        "lost_on_test": round(mean("semantic", "lost on test"), 2),
        "gone": round(mean("semantic", "gone %") / 100, 3),
        "extraction": max(line["extraction"] for line in table),
        "epoch_cost": round(mean("semantic", "epoch cost"), 3),
    }
    if not quick:
        warm, ones = (mean(method, "mask epochs to tolerance") for method in ("semantic", "gradient"))
        figures["warm_start_mask_epochs"] = round(warm / ones, 3)
    return {**figures, "table": table}
