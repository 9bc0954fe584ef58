"""Semantic slices (NeuSemSlice, arXiv 2407.20281): which neurons each class needs, and which classes share theirs.

For class c and layer l the critical neurons are the smallest prefix of the layer, in order of a score, whose masked
output stays at least Θ similar to the full one. One table holds the answer for every Θ: `level[u, c]` is the
similarity reached *without* u and all that rank below it, so u is critical exactly where level < Θ. The paper leaves
the similarity open; ours is the mean cosine over samples, with debiased CKA and the share of the score as options.

Letters: N neurons, C classes, n neurons of one layer, b samples of one class, k length of a prefix.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from surgery.analysis.cka import debiased_cka
from surgery.analysis.scan import Scan, samples_of
from surgery.analysis.sources import columns, sources
from surgery.analysis.watch import layouts, watch
from surgery.context import Context
from surgery.errors import ModelError, SelectionError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

Criterion = Literal["cosine", "cka", "mass"]
Fill = Literal["zero", "mean"]
FILLS: tuple[Fill, ...] = ("mean", "zero")
OTHERS: tuple[Criterion, ...] = ("cka", "mass")  # criteria for which what stands in for a neuron makes no difference
TABLES = "slices.safetensors"
LIMIT = 1_000  # samples over all classes
NEVER = float("inf")  # the level of what no slice counts: logits, and classes without samples
_ROWS = 100  # samples of a class that CKA compares: its cost grows with their square
_CHUNK = 2**22  # numbers of Gram matrices at a time


def levels(
    model: Model,
    data: Dataset,
    found: Scan,
    score: Tensor,
    ctx: Context,
    *,
    criterion: Criterion = "cosine",
    fill: Fill = "zero",
    limit: int = LIMIT,
    seen: Observed | None = None,
) -> Tensor:
    """float32[N, C]: the similarity that a class's slice reaches before it needs the neuron; `NEVER` for logits.

    score: float[N, C], one of `surgery.analysis.criticality`. found: the scan it belongs to. fill: what a neuron
    outside the slice gives, zero or its mean. criterion: "cosine" of the masked and the full input of the layer's
    reader, over neurons and positions, averaged over samples (1 where a sample leaves the layer silent); "cka" of
    their spatial means over at most 100 samples; "mass", the share of the layer's summed score, which needs no
    forward pass.
    seen: what `observe` gave, for several calls on the same samples.

    Raises:
        ModelError: the network has no index. SelectionError: `score` is not N × C.
    """
    index = model.index
    if index is None:
        raise ModelError(
            f"The neurons of this network are not numbered: {model.support.reason}.", "It can only be inspected."
        )
    if score.shape != (index.n, len(found.classes)):
        raise SelectionError(
            f"A score must be float[{index.n}, {len(found.classes)}], this one is {list(score.shape)}.",
            "Compute it on this version and these classes.",
        )
    if criterion == "mass":
        seen = None
    elif seen is None:
        seen = observe(model, data, found, ctx, limit=limit)
    level = torch.full((index.n, len(found.classes)), NEVER)
    for members in layers_of(index):
        for c in range(len(found.classes)):
            own = None if seen is None else seen.of(c, members)
            if found.count[c] == 0 or (own is not None and not len(own.energy)):
                continue
            order = score[members, c].argsort(descending=True, stable=True)
            reached = _reached(score[members, c][order].double(), own, order, criterion, fill)
            before = torch.cat([torch.zeros(1, dtype=torch.float64), reached.cummax(0).values[:-1]])
            level[members[order], c] = before.float()
    return torch.where(index.logits[:, None], NEVER, level[index.group])


def save(
    model: Model, data: Dataset, found: Scan, scores: Mapping[str, Tensor], ctx: Context, folder: Path, seen: Observed
) -> None:
    """Write `slices.safetensors` into a scan's folder, for every score.

    "score/fill" -> levels by cosine, for every fill; "score/cka" and "score/mass" -> those by the other criteria.
    """
    tables = {}
    for name, score in ctx.track(scores.items(), "cutting slices", total=len(scores)):
        for fill in FILLS:
            tables[f"{name}/{fill}"] = levels(model, data, found, score, ctx, fill=fill, seen=seen).contiguous()
        for other in OTHERS:
            tables[f"{name}/{other}"] = levels(model, data, found, score, ctx, criterion=other, seen=seen).contiguous()
    staged = folder / f"{TABLES}.part"
    save_file(tables, staged, metadata={"limit": str(LIMIT)})
    staged.replace(folder / TABLES)


def critical(level: Tensor, theta: float) -> Tensor:
    """bool[N, C]: the neurons that each class's slice has at threshold Θ (0–1)."""
    return level < theta


def layers_of(index: NeuronIndex) -> Iterator[Tensor]:
    """The points of each layer, int64[n], in order; a coupled group counts in its first layer."""
    points = index.point.nonzero()[:, 0]
    for layer in index.layer_of[points].unique().tolist():
        yield points[index.layer_of[points] == layer]


@dataclass(frozen=True)
class Observed:
    """What some samples showed. energy, mean: float32[samples, columns], the sum of squares over positions and the
    mean over them; positions, average: float32[columns]; column: int64[N]; groups: int64[samples], the class of each.
    """

    energy: Tensor
    mean: Tensor
    positions: Tensor
    average: Tensor
    column: Tensor
    groups: Tensor

    def of(self, c: int, members: Tensor) -> Observed:
        """One class and the columns of some neurons."""
        own, column = self.groups == c, self.column[members]
        energy, mean = (table[own][:, column] for table in (self.energy, self.mean))
        return Observed(energy, mean, self.positions[column], self.average[column], column, self.groups[own])


def observe(model: Model, data: Dataset, found: Scan, ctx: Context, *, limit: int = LIMIT) -> Observed:
    """One pass over at most `limit` samples, evenly over classes, keeping two numbers per sample and neuron."""
    index = model.index
    if index is None:
        raise ModelError("The neurons of this network are not numbered.", "It can only be inspected.")
    _, ids, groups, _ = samples_of(data, str(found.inputs["role"]), limit, ctx.seed)
    module = model.module if ctx.device == "cpu" else copy.deepcopy(model.module).to(ctx.device)
    layout = layouts(module, index, model.input.example(2, ctx.device))
    places = [source for source in sources(index) if source.layer in layout]
    width = places[-1].stop if places else 0
    energy, mean = torch.zeros(2, len(ids), width)
    positions = torch.ones(width)
    rows = torch.zeros(0, dtype=torch.long)
    fresh: set[str] = set()

    def see(name: str, x: Tensor, axis: int) -> None:
        if name not in fresh:
            return
        fresh.discard(name)
        maps = layout[name].maps(x, axis, len(rows))
        for source in (source for source in places if source.layer == name):
            own = source.select(maps).flatten(2)  # [b, n, positions]
            energy[rows, source.start : source.stop] = own.square().sum(2).cpu()
            mean[rows, source.start : source.stop] = own.mean(2).cpu()
            positions[source.start : source.stop] = own.shape[2]

    functional = {name for name, one in layout.items() if one.functional}
    with torch.no_grad(), watch(module, index, see, functional=functional):
        for x, _, chosen in ctx.track(data.batches(ids.numpy(), model.input, device=ctx.device), "slicing"):
            rows, fresh = torch.searchsorted(ids, torch.as_tensor(chosen)), set(layout)
            module(x)
    column = columns(index, places)
    average = torch.zeros(width)
    shown = column >= 0
    average[column[shown]] = found.overall.mean.float()[shown]
    return Observed(energy, mean, positions, average, column.clamp(min=0), groups)


def _reached(score: Tensor, own: Observed | None, order: Tensor, criterion: Criterion, fill: Fill) -> Tensor:
    """float64[n]: the similarity of each prefix, of length 1 … n."""
    if own is None:
        total = score.sum()
        return score.cumsum(0) / total if total > 0 else torch.ones(len(score), dtype=torch.float64)
    if criterion == "cka":
        return _cka(own.mean[:_ROWS, order].double())
    energy, mean = (table[:, order].double() for table in (own.energy, own.mean))  # [b, n]
    within = energy.cumsum(1)
    whole = within[:, -1:]
    dot, norm = within, within
    if fill == "mean":
        size, average = own.positions[order].double(), own.average[order].double()
        dot = within + _after(mean * size * average)
        norm = within + _after((size * average.square()).expand_as(mean))
    cosine = dot / (norm * whole).sqrt().clamp(min=1e-30)
    return torch.where(whole > 0, cosine, 1.0).mean(0)


def _after(values: Tensor) -> Tensor:
    """[b, n]: the sum of all that come after each place."""
    return values.sum(1, keepdim=True) - values.cumsum(1)


def _cka(mean: Tensor) -> Tensor:
    """float64[n]: debiased CKA of the first k columns with all of them, for every k; 1 below four samples."""
    samples, neurons = mean.shape
    if samples < 4:
        return torch.ones(neurons, dtype=torch.float64)
    whole = mean @ mean.T
    found = [_gram(mean, k, k + step) for step in [max(1, _CHUNK // samples**2)] for k in range(0, neurons, step)]
    return torch.cat([debiased_cka(grams, whole) for grams in found]).clamp(-1, 1)


def _gram(mean: Tensor, start: int, stop: int) -> Tensor:
    """[k, b, b]: the Gram matrices of the prefixes that end at columns start … stop."""
    base = mean[:, :start] @ mean[:, :start].T
    own = mean[:, start:stop].T
    return base + torch.einsum("ki,kj->kij", own, own).cumsum(0)


def counts(index: NeuronIndex, members: Tensor) -> np.ndarray:
    """int64[layers, C]: how many points of each layer every class's slice has; rows as `layers_of` gives them."""
    return np.stack([members[own].sum(0).numpy() for own in layers_of(index)])
