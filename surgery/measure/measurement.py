"""Measure models side by side: always the same rows, each with its split and n. Only this opens the test role.

Models are measured in one go, so that agreement is with the first one given and times are taken in turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from surgery.context import Context
from surgery.errors import DataError, MeasureError

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.network.model import Model

ALL = "overall"
COLUMNS = ("metric", "model", "scope", "value", "unit", "better", "split", "n")
BATCHES = (1, 32)
NEW = "new "  # before the metrics of what was measured on the new data beside the dataset
KNOWN = ", task known"  # after the accuracy of who is told whether a sample is of a part's classes or of others
ORIGINAL = "original"  # a model of this name is the root of a lineage: agreement is shown with it too
_KEY = ["metric", "scope", "split"]


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    rows: COLUMNS, where scope is "overall", a class or "batch 32"; unit "fraction" is 0–1; better is "higher", "lower"
        or ""; split is the role of the n samples, or what a time was taken on (n is then the number of passes).
    predictions: model -> int64[n] classes (−1: another) or float32[n]; truth: the same, or None; both are about the
        samples `ids: int64[n]` of the role `split`.
    classes: what they number: those of the dataset that every model knows.
    losses: of texts, model -> float64[n]: the mean cross-entropy of each sample's characters, in nats.
    """

    rows: pd.DataFrame
    split: str
    ids: NDArray[np.int64]
    truth: NDArray[Any] | None
    predictions: Mapping[str, NDArray[Any]]
    classes: tuple[str, ...]
    losses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def measure(
    models: Mapping[str, Model],
    data: Dataset,
    ctx: Context,
    *,
    latency: bool = True,
    parts: Mapping[str, Model] | None = None,
    beside: Mapping[str, Model] | None = None,
) -> Measurement:
    """Measure quality on test (without one on val, as `split` says), agreement with the first model, and costs.

    Where a model knows only some of the dataset's classes, all are measured on samples of those that all know.

    parts: model -> the part of it that answers when it is known that a sample is of that part's classes.
    beside: models of other classes, of which only the costs are measured.

    Raises:
        MeasureError: no model, no samples, or a model that does not fit the dataset. Cancelled.
    """
    from surgery.measure.quality import run

    if not models:
        raise MeasureError("There is no model to measure.", "Name at least one.")
    for model in models.values():
        data = data.fitting(model.classes)
    split, ids = opened(data)
    truth = None if data.task == "unlabelled" or split == "unlabelled" else data.labels(ids)
    answers = {name: run(model, data, ids, ctx) for name, model in models.items()}
    rows: list[tuple[Any, ...]] = []
    losses: dict[str, NDArray[np.float64]] = {}
    for name, model in models.items():
        if model.input.kind == "text":
            losses[name] = _losses(model, data, ids, ctx)
            rows += _likelihood(name, losses[name], split)
        if truth is not None:
            rows += [(metric, name, *rest, split, n) for metric, *rest, n in quality_rows(data, answers[name], truth)]
        rows += [("agreement", name, *rest, split, len(ids)) for rest in _agreement(model, answers, name)]
        rows += _preserved(name, model, data, ctx)
        rows += _on_new(name, model, data.new, ctx)
        if parts and truth is not None:
            rows += _known(name, model, parts.get(name), data, ctx)
        rows += _costs(name, model)
    others = beside or {}
    for name, model in others.items():
        rows += _costs(name, model)
    if latency:
        rows += _times({**others, **models}, ctx)
    return Measurement(pd.DataFrame(rows, columns=list(COLUMNS)), split, ids, truth, answers, data.classes, losses)


def compare(measurement: Measurement, before: str, after: str) -> pd.DataFrame:
    """metric, scope, before, after, change (after − before), unit, better, split, n: one row per metric and scope.

    Raises:
        MeasureError: a model was not measured.
    """
    sides = {}
    for side, name in (("before", before), ("after", after)):
        found = measurement.rows[measurement.rows["model"] == name]
        if found.empty:
            known = ", ".join(measurement.predictions)
            raise MeasureError(f"{name!r} was not measured, only {known}.", "Choose one of these.")
        sides[side] = found.set_index(_KEY)
    both = sides["after"].rename(columns={"value": "after"})
    both["before"] = sides["before"]["value"]
    both["change"] = both["after"] - both["before"]
    order = ["metric", "scope", "before", "after", "change", "unit", "better", "split", "n"]
    return both.reset_index()[order]


def opened(data: Dataset) -> tuple[str, NDArray[np.int64]]:
    """The role to measure on and its samples: test, else val, else what has no labels.

    Raises:
        MeasureError: there are no samples.
    """
    for role in ("test", "val", "unlabelled"):
        ids = data.ids(role)
        if len(ids):
            return role, ids
    raise MeasureError(f"{data.name!r} has no test, val or unlabelled samples.", "Import more samples.")


def quality_rows(data: Dataset, answers: NDArray[Any], truth: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """(metric, scope, value, unit, better, n)."""
    from surgery.measure.quality import mse, r2

    if data.task == "regression":
        yield "r2", ALL, r2(answers, truth), "", "higher", len(truth)
        yield "mse", ALL, mse(answers, truth), "", "lower", len(truth)
        return
    yield "accuracy", ALL, float((answers == truth).mean()), "fraction", "higher", len(truth)
    groups = data.group_of(truth)
    for number, label in enumerate(data.groups):
        own = groups == number
        scope = label if label != ALL else f"class {label}"
        if own.any():
            yield "accuracy", scope, float((answers[own] == truth[own]).mean()), "fraction", "higher", int(own.sum())


def _losses(model: Model, data: Dataset, ids: NDArray[np.int64], ctx: Context) -> NDArray[np.float64]:
    """float64[n]: of a text, the mean cross-entropy of the next character at all positions of each sample."""
    from surgery.edit.evaluate import losses

    found: NDArray[np.float64] = losses(model, data, ids, ctx, "measuring the loss").double().numpy()
    return found


def _likelihood(name: str, losses: NDArray[np.float64], split: str) -> list[tuple[Any, ...]]:
    """The mean loss, and its exponential."""
    value = float(losses.mean())
    return [
        ("loss", name, ALL, value, "nats", "lower", split, len(losses)),
        ("perplexity", name, ALL, float(np.exp(value)), "", "lower", split, len(losses)),
    ]


def _agreement(model: Model, answers: Mapping[str, NDArray[Any]], name: str) -> Iterator[tuple[Any, ...]]:
    """(scope, value, unit, better): share of equal classes, or R² of one regression's answers against the first's."""
    from surgery.measure.quality import quality

    first = next(iter(answers.values()))
    unit = "fraction" if model.task == "classification" else ""
    yield ALL, quality(model.task, answers[name], first), unit, "higher"
    if ORIGINAL in answers:
        yield ORIGINAL, quality(model.task, answers[name], answers[ORIGINAL]), unit, "higher"


def _preserved(name: str, model: Model, data: Dataset, ctx: Context) -> list[tuple[Any, ...]]:
    """How much of the must-keep cases is right, or how likely their text is, when there are any."""
    from surgery.edit.evaluate import losses
    from surgery.measure.quality import quality, run

    ids = data.ids("preserve")
    if not len(ids) or data.task == "unlabelled":
        return []
    if model.input.kind == "text":
        value = float(losses(model, data, ids, ctx, "measuring must-keep cases").double().mean())
        return [("must-keep cases", name, ALL, value, "nats", "lower", "preserve", len(ids))]
    value = quality(model.task, run(model, data, ids, ctx, "measuring must-keep cases"), data.labels(ids))
    unit = "fraction" if model.task == "classification" else ""
    return [("must-keep cases", name, ALL, value, unit, "higher", "preserve", len(ids))]


def _on_new(name: str, model: Model, new: Dataset | None, ctx: Context) -> list[tuple[Any, ...]]:
    """Quality on new data, overall and per class, of a model that knows its classes."""
    from surgery.measure.quality import meaning_of, run

    if new is None:
        return []
    try:
        meaning_of(model, new)
    except (MeasureError, DataError):
        return []  # classes that it has yet to learn
    split, ids = opened(new)
    truth = new.labels(ids)
    answers = run(model, new, ids, ctx, "measuring new data")
    likely = _likelihood(name, _losses(model, new, ids, ctx), split) if model.input.kind == "text" else []
    rows = [(NEW + metric, name, *rest, split, n) for metric, *rest, n in quality_rows(new, answers, truth)]
    return [*((NEW + metric, *rest) for metric, *rest in likely), *rows]


def _known(name: str, model: Model, part: Model | None, data: Dataset, ctx: Context) -> Iterator[tuple[Any, ...]]:
    """Accuracy of a model on its part's classes by the part alone, and on other classes of new data among these."""
    from surgery.measure.quality import quality, run

    stage = "measuring with the task known"
    asked = part or model
    if set(data.classes) <= set(asked.classes):
        split, ids = opened(data)
        value = quality(model.task, run(asked, data, ids, ctx, stage, known=data.classes), data.labels(ids))
        yield "accuracy" + KNOWN, name, ALL, value, "fraction", "higher", split, len(ids)
    new = data.new
    if new is not None and part is not None and set(new.classes) <= set(model.classes):
        split, ids = opened(new)
        others = [label for label in new.classes if label not in part.classes]
        ids = ids[np.isin(new.labels(ids), [new.classes.index(label) for label in others])]
        if len(ids):
            value = quality(model.task, run(model, new, ids, ctx, stage, known=others), new.labels(ids))
            yield NEW + "accuracy" + KNOWN, name, ALL, value, "fraction", "higher", split, len(ids)


def _costs(name: str, model: Model) -> list[tuple[Any, ...]]:
    from surgery.network.cost import bytes_of, macs, parameters
    from surgery.network.size import bits_of

    counts = (("parameters", "", parameters), ("bytes", "bytes", bytes_of), ("MACs", "", macs))
    rows = [(metric, name, ALL, float(count(model)), unit, "lower", "", 0) for metric, unit, count in counts]
    return [*rows, ("precision", name, ALL, bits_of(model), "bits", "", "", 0)]


def _times(models: Mapping[str, Model], ctx: Context) -> list[tuple[Any, ...]]:
    """Median and interquartile range of both batch sizes, in ms per forward pass."""
    from surgery.network.latency import latency, threads

    rows: list[tuple[Any, ...]] = []
    where = threads(ctx.device)
    for batch in BATCHES:
        for name, time in latency(models, batch, ctx).items():
            scope = f"batch {batch}"
            rows.append(("latency", name, scope, time.median, "ms", "lower", where, time.rounds))
            rows.append(("latency IQR", name, scope, time.iqr, "ms", "", where, time.rounds))
    return rows
