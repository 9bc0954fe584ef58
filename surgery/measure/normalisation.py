"""Is the model fed as it was trained? Its quality on the probe set under its own and other common normalisations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.context import Context

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.network.model import InputSpec, Model

Values = tuple[float, ...]
Row = tuple[str, Values, Values, float, int]

PROBE = 500  # samples: a wrong normalisation costs tens of points, which 500 show well

# Mean and std per channel on the 0–1 scale. "0–255" is a model trained on raw pixel values.
COMMON: dict[str, tuple[Values, Values]] = {
    "none": ((0.0,), (1.0,)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST": ((0.1307,), (0.3081,)),
    "half": ((0.5,), (0.5,)),
    "0–255": ((0.0,), (1 / 255,)),
}


def check_normalisation(model: Model, data: Dataset, ctx: Context) -> list[Row]:
    """(name, mean, std, quality, n) per normalisation, the model's own first, duplicates left out.

    quality: accuracy as a fraction, or R² of a regression, on at most `PROBE` samples of the probe set. Empty for
    unlabelled data.
    """
    from surgery.measure.quality import quality, run

    ids = data.probe_ids(PROBE)
    if data.task == "unlabelled" or not len(ids):
        return []
    rows: list[Row] = []
    for name, spec in ctx.track(list(_candidates(model.input, data)), "trying normalisations"):
        tried = replace(model, input=spec)
        answers, truth = run(tried, data, ids, replace(ctx, report=lambda event: None)), data.labels(ids)
        rows.append((name, spec.mean, spec.std, quality(model.task, answers, truth), len(ids)))
    return rows


def _candidates(own: InputSpec, data: Dataset) -> Iterator[tuple[str, InputSpec]]:
    """Name and input of every distinct normalisation to try."""
    yield "as set", own
    seen = {(own.mean, own.std)}
    named = dict(COMMON) if own.kind == "image" else {"none": COMMON["none"]}
    if len(data.ids("train")):
        named["this dataset"] = data.statistics("train")
    for name, (mean, std) in named.items():
        spec = replace(own, mean=_channels(mean, own.shape[0]), std=_channels(std, own.shape[0]))
        if (spec.mean, spec.std) not in seen:
            seen.add((spec.mean, spec.std))
            yield name, spec


def _channels(values: Values, count: int) -> Values:
    """`count` values: the ones given, or their average for every channel."""
    return values if len(values) == count else (sum(values) / len(values),) * count
