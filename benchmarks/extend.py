"""Can a network learn five more classes without forgetting its five, and without old data?

The cnn knows the first five classes of CIFAR-10 (A) and is taught the last five (B). Equal epochs on B for all. Task
known: A's outputs are compared for samples of A (of ours: by the slice alone), B's for samples of B. Task unknown: all
ten compete; the new outputs of everyone are calibrated alike, on 50 validation samples per class.

Ours keeps nothing of A once the free neurons are found; two more lines show it with old samples in half of every batch,
and in the paper's way (Taylor ranking; what free neurons say to the others learns too).

Controls: naive = all weights train on B, loss over B's outputs alone, learning rate chosen on validation by the mean of
A and B. Replay p % = all weights train on B with p % of A's training samples kept, which make up a share of every batch
(in proportion, or half: chosen on validation), loss over all outputs. Redundant layers = B trains the half of the
layers whose representation is most like that of the layer before (CKA), as DeepArc does. Joint = the same network
trained on all ten classes from the start.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bases import base, cifar10, half
from benchmarks.rows import row
from surgery.analysis.layers import matrix
from surgery.analysis.scan import scan
from surgery.analysis.slices import layers_of, observe
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.splits import spread
from surgery.edit.calibrate import affine, applied
from surgery.edit.evaluate import predict, quality
from surgery.edit.extract import extract
from surgery.edit.grow import grow
from surgery.edit.parts import rows_of
from surgery.edit.tune import Replay, tune
from surgery.network.model import Model
from surgery.operations.extend import Extend

SEEDS = (0, 1, 2)
EPOCHS, CALIBRATION = 3, 50
RATES = (3e-4, 1e-4, 3e-5)  # of naive training
MIXES = ("in proportion", "half")  # of old samples in a batch
RATE = 1e-3  # of training with old samples, and of redundant layers
HALF = 5  # classes
OLD, FRESH = torch.arange(HALF), torch.arange(HALF, 2 * HALF)
SCANNED = 1_000


@dataclass(frozen=True)
class Some:
    """A share of a dataset's training samples: what is kept of the old."""

    data: Dataset
    own: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the whole."""
        return self.data.classes

    def ids(self, _: str) -> np.ndarray:
        """The samples that were kept."""
        return self.own

    def batches(self, *given: Any, **named: Any) -> Any:
        """As the whole gives them."""
        return self.data.batches(*given, **named)


def known(model: Model, role: str, part: Model | None = None) -> tuple[float, float]:
    """Accuracy on A and B when the task is known; A by a part alone when there is one."""
    ctx = Context()
    data = half(second=False), half(second=True)
    old = quality(part or model, data[0], data[0].ids(role), ctx, among=OLD)
    return old, quality(model, data[1], data[1].ids(role), ctx, among=FRESH)


def unknown(model: Model, role: str) -> tuple[float, float]:
    """Accuracy on A and B over all outputs, the new ones calibrated on CALIBRATION validation samples per class."""
    ctx, logits, truth = Context(), [], []
    data = half(second=False), half(second=True)
    for each in data:
        ids = each.ids("val")
        ids = ids[np.sort(spread(each.strata(ids), CALIBRATION * HALF, 0))]
        logits.append(predict(model, each, ids, ctx))
        truth.append(model.outputs_of(each.classes)[torch.as_tensor(each.labels(ids))])
    slope, shift = affine(torch.cat(logits), torch.cat(truth), FRESH)

    def right(each: Dataset) -> float:
        out = applied(predict(model, each, each.ids(role), ctx).double(), FRESH, slope, shift)
        wanted = model.outputs_of(each.classes)[torch.as_tensor(each.labels(each.ids(role)))]
        return float((out.argmax(1) == wanted).double().mean())

    return right(data[0]), right(data[1])


def line(way: str, seed: int, model: Model, part: Model | None = None, **facts: Any) -> dict[str, Any]:
    """One line of the table."""
    a, b = known(model, "test", part)
    line = {"seed": seed, "way": way, "A": 100 * a, "B": 100 * b, "mean": 50 * (a + b)}
    a, b = unknown(model, "test")
    return line | {"unknown A": 100 * a, "unknown B": 100 * b, "unknown": 50 * (a + b), **facts}


def ours(name: str, seed: int, **given: Any) -> dict[str, Any]:
    """The operation. Beside accuracies: how much was free, at which quality, and how far the slice's outputs moved."""
    model, a, b = base("cnn_half", seed), half(second=False), half(second=True)
    plan = Extend(epochs=EPOCHS, calibration=CALIBRATION, **given)
    outcome = plan.operate([model], a.without_test().with_new(b.without_test()), Context(seed=seed))
    made, part = outcome.models[0], extract(outcome.models[0], outcome.parts[0])[0]
    (facts,) = outcome.tables["slice"].to_dict("records")
    before = quality(model, a, a.ids("test"), Context())
    lost = before - quality(part, a, a.ids("test"), Context())
    return line(name, seed, made, part, free=facts["free"], lost=100 * lost, moved=facts["outputs moved by"])


def fine_tuned(seed: int, rate: float, replay: Replay | None = None, free: Any = None) -> Model:
    """All weights (or `free`) trained on B."""
    start = grow(base("cnn_half", seed), half(second=True).classes, seed)
    return tune(
        start,
        half(second=True).without_test(),
        Context(seed=seed),
        epochs=EPOCHS,
        rate=rate,
        free=free,
        replay=replay,
        among=None if replay else FRESH,
    )


def naive(way: str, seed: int) -> dict[str, Any]:
    """Whatever forgetting costs, at the learning rate that does best on validation."""
    found = {rate: fine_tuned(seed, rate) for rate in RATES}
    best = max(found, key=lambda rate: sum(known(found[rate], "val")))
    return line(way, seed, found[best], rate=best)


def replayed(way: str, seed: int, share: float) -> dict[str, Any]:
    """With a share of A's training samples kept, mixed in the way that does best on validation."""
    a, b = half(second=False).without_test(), half(second=True)
    ids = a.ids("train")
    kept = np.sort(np.random.default_rng(seed).permutation(ids)[: round(share * len(ids))])
    shares = {"in proportion": len(kept) / (len(kept) + len(b.ids("train"))), "half": 0.5}
    mixes = MIXES if share < 1 else MIXES[:1]
    found = {mix: fine_tuned(seed, RATE, Replay(Some(a, kept), shares[mix])) for mix in mixes}  # type: ignore[arg-type]
    best = max(found, key=lambda mix: sum(known(found[mix], "val")))
    return line(way, seed, found[best], mix=best)


def redundant(way: str, seed: int) -> dict[str, Any]:
    """B in the layers that add least."""
    model, a = base("cnn_half", seed), half(second=False).without_test()
    assert model.index is not None
    ctx = Context(seed=seed)
    seen = observe(model, a, scan(model, a, ctx, limit=SCANNED), ctx, limit=SCANNED)
    members = list(layers_of(model.index))
    cka = matrix([seen.mean[:500, seen.column[own]] for own in members])
    alike = torch.tensor([float(cka[i - 1, i]) for i in range(1, len(members))])
    chosen = (alike.argsort(descending=True)[: len(members) // 2] + 1).tolist()
    grown = grow(model, half(second=True).classes, seed)
    assert grown.index is not None
    neurons: Tensor = torch.arange(grown.index.n) >= model.index.n
    neurons[torch.cat([members[i] for i in chosen])] = True
    return line(way, seed, fine_tuned(seed, RATE, free=rows_of(grown, neurons)), layers=str(sorted(chosen)))


def joint(way: str, seed: int) -> dict[str, Any]:
    """All ten classes from the start."""
    model = base("cnn", seed)
    return line(way, seed, model) if model.classes == cifar10().classes else {}


WAYS: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "ours": functools.partial(ours, replay=0.0),
    "naive": naive,
    "Replay 10 %": functools.partial(replayed, share=0.10),
    "ours, with old samples": functools.partial(ours, replay=0.5),
    "ours, the paper's way": functools.partial(ours, replay=0.0, way="through", choose="taylor", task="known"),
    "Replay 5 %": functools.partial(replayed, share=0.05),
    "Replay 100 %": functools.partial(replayed, share=1.0),
    "redundant layers": redundant,
    "joint": joint,
}
QUICK = ("ours", "naive")


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures over the seeds; the quick form has one seed, ours and naive."""
    seeds, ways = (SEEDS[:1], QUICK) if quick else (SEEDS, tuple(WAYS))
    table = [row("extend", f"{s}/{w}", functools.partial(WAYS[w], w, s)) for s in seeds for w in ways]

    def column(way: str, name: str) -> np.ndarray:
        return np.array([each[name] for each in table if each["way"] == way])

    def ahead(way: str, name: str) -> float:
        return round(float((column("ours", name) - column(way, name)).mean()), 2)

    figures: dict[str, Any] = {
        "slice_moved_by": float(column("ours", "moved").max()),
        "least_free": round(float(column("ours", "free").min()), 3),
        "most_lost_on_A": round(float(column("ours", "lost").max()), 2),
        "ahead_of_naive": ahead("naive", "mean"),
    }
    if not quick:
        figures |= {
            "ahead_of_replay_10": ahead("Replay 10 %", "mean"),
            "ahead_of_replay_10_unknown": ahead("Replay 10 %", "unknown"),
        }
    return {**figures, "table": [*table, *summary(table, ways)]}


def summary(table: list[dict[str, Any]], ways: tuple[str, ...]) -> list[dict[str, Any]]:
    """Mean and standard deviation of every way over the seeds."""
    names = ("A", "B", "mean", "unknown A", "unknown B", "unknown")
    found: list[dict[str, Any]] = []
    for way in ways:
        own = [each for each in table if each["way"] == way]
        for what, of in (("mean", np.mean), ("spread", np.std)):
            found.append(
                {"seed": what, "way": way, **{name: float(of([each[name] for each in own])) for name in names}}
            )
    return found
