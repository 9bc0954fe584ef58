"""The table of neurons: one row per id, with where it is, what it answers to, and one plain sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from surgery.analysis.clusters import clusters
from surgery.analysis.kept import offsets
from surgery.analysis.naming import Name, names
from surgery.analysis.projection import TABLE, features, pca, spread
from surgery.analysis.scan import Scan
from surgery.data.dataset import QUINTILES
from surgery.errors import ModelError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model

FIFTHS = ("lowest fifth", "second fifth", "middle fifth", "fourth fifth", "highest fifth")
ALIKE = 1.1  # the strongest class is not spoken of below this multiple of the others
STILL = 1e-6  # a standard deviation below this share of the mean is rounding

Rows = NDArray[np.float64]


def neurons(model: Model, found: Scan, *, seed: int = 0, scores: Mapping[str, ArrayLike] | None = None) -> pd.DataFrame:
    """N rows, row i is neuron i. Further score columns may be given as float[N].

    id, layer, position (in the layer), group, point (drawn, one per group), fixed, why_fixed, logit, kind ("conv",
    "linear"), mean, active (fraction), top_class, selectivity (0–1: how far the strongest class is above the mean of
    the others), scores, cluster (its label), sentence, name, name_kind, precision, held_out, chance (see `_named`),
    pca_x, pca_y, map_x, map_y (NaN until `projection.project`).

    Raises:
        ModelError: when the network has no index.
    """
    if model.index is None:
        raise ModelError(
            f"The neurons of this network are not numbered: {model.support.reason}.", "It can only be inspected."
        )
    contrast = Contrast.of(found)
    extra = {name: np.asarray(score) for name, score in (scores or {}).items()}
    table = _places(model.index).assign(**_answers(found, contrast), **extra)
    table["cluster"] = _cluster(model.index, found, seed)
    about = zip(table["logit"], table["position"], strict=True)
    table["sentence"] = [
        _output(model, position) if logit else _sentence(found, contrast, neuron)
        for neuron, (logit, position) in enumerate(about)
    ]
    group, points = model.index.group.numpy(), np.flatnonzero(model.index.point.numpy())
    table = table.assign(**_named(model.index, found, contrast))
    placed = spread(pca(features(found)[points]), points, group)
    table["pca_x"], table["pca_y"] = placed[:, 0], placed[:, 1]
    table["map_x"], table["map_y"] = np.float32("nan"), np.float32("nan")
    return table


def save(model: Model, found: Scan, folder: Path, *, seed: int = 0) -> None:
    """Write a scan and its table of neurons into an existing folder: all that the pages show."""
    found.save(folder)
    neurons(model, found, seed=seed).to_parquet(folder / TABLE, index=False)


def _places(index: NeuronIndex) -> pd.DataFrame:
    names = np.array(list(index.layers), dtype=object)
    kinds = np.array([layer.kind for layer in index.layers.values()], dtype=object)
    position = np.zeros(index.n, dtype=np.int64)
    for layer in index.layers.values():
        position[layer.rows.numpy()] = np.arange(len(layer.rows))
    owner, group = index.layer_of.numpy(), index.group.numpy()
    return pd.DataFrame(
        {
            "id": np.arange(index.n),
            "layer": names[owner],
            "position": position,
            "group": group,
            "point": index.point.numpy(),
            "fixed": index.fixed.numpy(),
            "why_fixed": [index.stays(int(number)) for number in group],
            "logit": index.logits.numpy(),
            "kind": kinds[owner],
        }
    )


@dataclass(frozen=True)
class Contrast:
    """What a scan says of each neuron over classes that have samples, in float64.

    several: there are two such classes or more. top: int64[N], the class of largest mean; best: [N], that mean;
    others: [N], the mean of the other classes' means. mean, active: [N], over all samples. still: bool[N], the same on
    every sample but for rounding. neutral: bool[N], the means of all classes lie within 10 % of each other, with
    standard errors below half of that.
    """

    several: bool
    top: NDArray[np.int64]
    best: Rows
    others: Rows
    mean: Rows
    active: Rows
    still: NDArray[np.bool_]
    neutral: NDArray[np.bool_]

    @classmethod
    def of(cls, found: Scan) -> Contrast:
        """Read it off a scan."""
        overall, seen = found.overall, found.count.numpy() > 0
        mean, balanced = overall.mean.numpy(), overall.balanced.numpy()
        still = np.sqrt(overall.var.numpy()) <= STILL * np.abs(mean)
        if found.kept is not None:
            top, best = found.kept.classes[:, 0].clamp(min=0).numpy(), found.mean[:, 0].double().numpy()
            neutral = np.zeros(len(top), dtype=np.bool_)  # that takes all classes
        else:
            table = found.mean.double().numpy()
            top = np.where(seen, table, -np.inf).argmax(1)
            best = np.take_along_axis(table, top[:, None], 1)[:, 0]
            neutral = _neutral(table[:, seen], found.var.double().numpy()[:, seen], found.count.double().numpy()[seen])
        rest = seen.sum() - 1
        others = (balanced * (rest + 1) - best) / rest if rest > 0 else best
        return cls(rest > 0, top, best, others, mean, overall.active.numpy(), still, neutral)


def _neutral(mean: Rows, var: Rows, count: Rows) -> NDArray[np.bool_]:
    """bool[N] of class means and variances float64[N, C] and samples per class float64[C]: see `Contrast`."""
    size = np.abs(mean.mean(1))
    error = np.sqrt(var / count).max(1, initial=0)
    alike = (np.ptp(mean, axis=1) < (ALIKE - 1) * size) & (error < (ALIKE - 1) / 2 * size)
    return np.asarray(alike & (len(count) > 1), dtype=np.bool_)


def _answers(found: Scan, contrast: Contrast) -> dict[str, NDArray[Any]]:
    """mean, active, top_class ("" where no class stands out) and selectivity of each neuron."""
    size = np.abs(contrast.best) + np.abs(contrast.others)
    selectivity = np.divide(contrast.best - contrast.others, size, out=np.zeros(len(size)), where=size > 0)
    named = np.array(found.classes, dtype=object)[contrast.top]
    named[selectivity <= 0] = ""
    return {"mean": contrast.mean, "active": contrast.active, "top_class": named, "selectivity": selectivity}


def _cluster(index: NeuronIndex, found: Scan, seed: int) -> NDArray[Any]:
    """The cluster's label for every member of a group; "" for logits."""
    profiles, balanced = found.mean.numpy(), None
    if found.kept is not None:
        profiles, balanced = offsets(found), found.kept.overall.balanced.numpy()
    number, labels = clusters(profiles, index.point.numpy(), seed, classes=found.classes, balanced=balanced)
    own = np.array([*labels, ""], dtype=object)[number]  # −1 is the last one
    return np.where(index.logits.numpy(), "", own[index.group.numpy()])


def _named(index: NeuronIndex, found: Scan, contrast: Contrast) -> dict[str, NDArray[Any]]:
    """name, name_kind, precision, held_out, chance (see `naming.Name`) of each neuron; members of a group share them.

    Kinds besides those of `naming`: "constant" (gives the same on every sample; "dead": always 0), "neutral" (means of
    all classes within 10 % of each other, and known that well), "output", and "" without responses.
    """
    points = np.flatnonzero(index.point.numpy())
    given = [Name("unclear")] * len(points)
    if found.responses is not None:
        kept = found.responses
        called = tuple(spoken(name) for name in found.classes)
        given = names(kept.values.numpy(), kept.groups.numpy(), called, kept.concepts.numpy(), kept.names)
    own = {int(point): _settled(found, contrast, int(point), name) for point, name in zip(points, given, strict=True)}
    nothing = (("", "output") if found.responses is not None else ("", ""), Name("unclear"))
    rows = [own.get(int(number), nothing) for number in index.group.numpy()]
    return {
        "name": np.array([text for (text, _), _ in rows], dtype=object),
        "name_kind": np.array([kind if found.responses is not None else "" for (_, kind), _ in rows], dtype=object),
        "precision": np.array([name.precision for _, name in rows]),
        "held_out": np.array([name.held_out for _, name in rows]),
        "chance": np.array([name.chance for _, name in rows]),
    }


def _settled(found: Scan, contrast: Contrast, neuron: int, name: Name) -> tuple[tuple[str, str], Name]:
    """The text and kind under which a neuron goes: what needs no test comes first."""
    unnamed = Name("unclear")
    if int(found.top_sample[neuron, 0]) >= 0 and contrast.still[neuron]:
        dead = contrast.mean[neuron] == 0
        return ("dead", "dead") if dead else ("constant", "constant"), unnamed
    if name.kind == "unclear" and contrast.neutral[neuron]:
        return ("class-neutral", "neutral"), unnamed
    return (name.text or "unclear", name.kind), name


def spoken(name: str) -> str:
    """A class as it is spoken of: a quintile is targets in a fifth."""
    return f"targets in the {FIFTHS[QUINTILES.index(name)]}" if name in QUINTILES else name


def _output(model: Model, position: int) -> str:
    """What an output of the model is."""
    if model.task == "regression":
        return f"The model's output: {model.classes[0]}."
    return f"The output for {model.classes[position]}." if position < len(model.classes) else "An output of the model."


def _sentence(found: Scan, contrast: Contrast, neuron: int) -> str:
    """What a hidden neuron does, in plain words."""
    if int(found.top_sample[neuron, 0]) < 0:
        return "Not seen: no layer reads it by itself."
    mean = float(contrast.mean[neuron])
    if contrast.still[neuron]:
        if mean == 0:
            return f"Never active on these {found.samples:,} samples."
        return f"Always {mean:.2g} on these {found.samples:,} samples: it tells nothing apart."
    where = "samples" if int(found.top_position[neuron, 0]) < 0 else "positions"
    active = f"ctive on {_percent(float(contrast.active[neuron]))} of {where}"
    if not contrast.several:
        return f"A{active}, with a mean of {mean:.2g}."
    return f"{_preference(found, contrast, neuron)}; a{active}."


def _preference(found: Scan, contrast: Contrast, neuron: int) -> str:
    """Answers most to 3 (4.1× the average of other classes)."""
    best, others, top = (float(part[neuron]) for part in (contrast.best, contrast.others, contrast.top))
    name = spoken(found.classes[int(top)])
    kind = "fifths" if found.classes == QUINTILES else "classes"
    if best - others < (ALIKE - 1) * abs(others):
        return f"Answers to all {kind} alike"
    if others <= 0:
        return f"Answers most to {name} ({best:.2g} against {others:.2g} on other {kind})"
    return f"Answers most to {name} ({_times(best / others)} the average of other {kind})"


def _times(ratio: float) -> str:
    """1.4×, 12×, over 1,000×."""
    return "over 1,000×" if ratio > 1000 else f"{ratio:.2g}×" if ratio < 10 else f"{ratio:.0f}×"


def _percent(share: float) -> str:
    """38 %, or "under 1 %" and "over 99 %" instead of a false 0 or 100."""
    if 0 < share < 0.01:
        return "under 1 %"
    if 0.99 < share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"
