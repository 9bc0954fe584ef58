"""Is the model fed as it was trained? Its quality on the probe set under its own and other plausible inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from surgery.context import Context

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.network.model import InputSpec, Model

Values = tuple[float, ...]

PROBE = 500  # samples: a wrong input costs tens of points, which 500 show well

# Mean and std per channel on the 0–1 scale. "0–255" is a model trained on raw pixel values.
COMMON: dict[str, tuple[Values, Values]] = {
    "none": ((0.0,), (1.0,)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST": ((0.1307,), (0.3081,)),
    "half": ((0.5,), (0.5,)),
    "0–255": ((0.0,), (1 / 255,)),
}


@dataclass(frozen=True)
class Fed:
    """One way to feed the model and how good it is then: accuracy as a fraction, or R², on n samples."""

    name: str
    spec: InputSpec
    quality: float
    n: int


def check_input(model: Model, data: Dataset, ctx: Context) -> list[Fed]:
    """The model's quality under its own normalisation and image size, which comes first, and under others.

    Measured on at most `PROBE` samples of the probe set. Empty for unlabelled data.
    """
    from surgery.measure.quality import quality, run

    ids = data.probe_ids(PROBE)
    if data.task == "unlabelled" or not len(ids):
        return []
    rows: list[Fed] = []
    for name, spec in ctx.track(list(_candidates(model, data)), "trying normalisations and sizes"):
        answers = run(replace(model, input=spec), data, ids, replace(ctx, report=lambda event: None))
        rows.append(Fed(name, spec, quality(model.task, answers, data.labels(ids)), len(ids)))
    return rows


def _candidates(model: Model, data: Dataset) -> Iterator[tuple[str, InputSpec]]:
    """Name and input of every distinct way to try: other normalisations, and the size that the pictures have."""
    from surgery.network.load import takes

    own = model.input
    yield "as set", own
    if own.kind == "text":
        return
    seen = {(own.mean, own.std)}
    named = dict(COMMON) if own.kind == "image" else {"none": COMMON["none"]}
    if len(data.ids("train")):
        named["this dataset"] = data.statistics("train")
    for name, (mean, std) in named.items():
        spec = replace(own, mean=_channels(mean, own.shape[0]), std=_channels(std, own.shape[0]))
        if (spec.mean, spec.std) not in seen:
            seen.add((spec.mean, spec.std))
            yield name, spec
    native = replace(own, shape=(own.shape[0], *data.shape[1:]))
    if own.kind == "image" and native.shape != own.shape and takes(model.module, native.shape):
        yield f"{data.shape[1]} × {data.shape[2]} pixels", native


def _channels(values: Values, count: int) -> Values:
    """`count` values: the ones given, or their average for every channel."""
    return values if len(values) == count else (sum(values) / len(values),) * count
