"""How alike the layers of two networks are, of every two, in one pass over both.

A high similarity does not say that one layer can stand in for the other: CKA does not see the order of channels, which
two networks trained apart never have in common. It ranks; whether a share works is measured (edit/agreement.py).

Letters: b samples of a batch, L layers, n samples in all, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from surgery.analysis.cka import debiased
from surgery.errors import DataError, SelectionError
from surgery.network.cuts import cuts_of
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids

Metric = Literal["cka", "profile", "procrustes"]
METRICS: tuple[Metric, ...] = ("cka", "profile", "procrustes")
Pair = tuple[str, str]

BATCH = 256  # samples compared at a time: debiased CKA depends on it slightly, so it is the same everywhere
LEAST = 8  # samples that anything can be said of
SIDE = 32  # larger maps are averaged down to so many rows and columns


@dataclass(frozen=True)
class Similarity:
    """How alike the representations of two networks are.

    layers: the modules of each, in order of execution. value: float64[L₁, L₂]. low: the lower end of its one-sided 95 %
    interval over batches, NaN with fewer than three or where there are none.
    """

    metric: Metric
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    value: Tensor
    low: Tensor
    samples: int


def similarity(
    one: Model,
    other: Model,
    data: Dataset,
    ids: Ids,
    ctx: Context,
    *,
    layers: tuple[Sequence[str], Sequence[str]] | None = None,
    metric: Metric = "cka",
    batch: int = BATCH,
) -> Similarity:
    """As `similarities`, of two models."""
    named = None if layers is None else {"one": layers[0], "other": layers[1]}
    both = {"one": one, "other": other}
    return similarities(both, data, ids, ctx, layers=named, metric=metric, batch=batch)["one", "other"]


def similarities(
    models: Mapping[str, Model],
    data: Dataset,
    ids: Ids,
    ctx: Context,
    *,
    layers: Mapping[str, Sequence[str]] | None = None,
    metric: Metric = "cka",
    batch: int = BATCH,
) -> dict[Pair, Similarity]:
    """Compare every layer of every model with every layer of every other, each model running once.

    Each model sees the samples in the form it was trained on, in a seeded order and in whole batches (one smaller batch
    where there is no whole one). layers: modules that give one tensor, by default the cuts. Keys are pairs in the order
    of `models`.

    cka: debiased linear CKA (`analysis.cka`), its three inner products summed over all batches before they are divided
    (Nguyen et al., arXiv 2010.15327). procrustes: ‖XᵀY‖∗ ÷ (‖X‖ ‖Y‖) of centred representations, averaged over
    batches. profile (ours): the cosine of how the classes' mean representations lie to one another, channels averaged
    over their maps.

    Raises:
        DataError: too few samples, no labels for profiles, or inputs that never change. SelectionError: no such layer.
        TraceError: a network can be cut nowhere, and no layers were named.
    """
    if len(ids) < LEAST:
        raise DataError(f"{len(ids)} samples are too few to compare layers on.", f"Give at least {LEAST}.")
    if metric == "profile" and data.task != "classification":
        raise DataError(f"{data.name!r} has no classes, whose profiles could be compared.", "Compare by CKA.")
    own = layers or {name: [cut.name for cut in cuts_of(model)] for name, model in models.items()}
    order = ids[np.random.default_rng(ctx.seed).permutation(len(ids))]
    size = min(batch, len(order))
    order = order[: len(order) // size * size]
    sums = {pair: _SUMS[metric]() for pair in combinations(models, 2)}
    sources = [data.batches(order, model.input, size=size, device=ctx.device) for model in models.values()]
    with ExitStack() as stack:
        sides = [stack.enter_context(closing(_Side(models[name], own[name], metric, ctx.device))) for name in models]
        for parts in ctx.track(zip(*sources, strict=True), "comparing layers", total=len(sources[0])):
            seen = {
                name: _SUMS[metric].prepared(side(x))
                for name, side, (x, _, _) in zip(models, sides, parts, strict=True)
            }
            for (first, second), total in sums.items():
                total.add(seen[first], seen[second], parts[0][1])
    found = {}
    for pair, total in sums.items():
        value, low = total.result()
        found[pair] = Similarity(metric, (tuple(own[pair[0]]), tuple(own[pair[1]])), value, low, len(order))
    if all(bool((one.value == 0).all()) for one in found.values()):
        raise DataError(
            f"Nothing changes from one sample of {data.name!r} to the next: layers cannot be compared.",
            "Give samples that differ.",
        )
    return found


class _Side:
    """One network, watched at some modules: x -> what the metric keeps of each, float64[L, …] or a list of them."""

    def __init__(self, model: Model, layers: Sequence[str], metric: Metric, device: str) -> None:
        known = dict(model.module.named_modules())
        if strange := [name for name in layers if name not in known]:
            raise SelectionError(f"There is no layer {strange[0]!r} to compare.", "Name modules of the network.")
        self.home = next((parameter.device for parameter in model.module.parameters()), torch.device("cpu"))
        self.module, self.model, self.layers = model.module.to(device), model, layers
        self.taken: dict[str, Tensor] = {}
        keep = _channels if metric == "profile" else _gram
        self.hooks = [known[name].register_forward_hook(partial(self._take, name, keep)) for name in layers]

    def __call__(self, x: Tensor) -> list[Tensor]:
        self.taken = {}
        with torch.inference_mode():
            self.model(x)
        return [self.taken[name] for name in self.layers]

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.module.to(self.home)

    def _take(self, name: str, keep: Any, module: nn.Module, inputs: Any, out: Any) -> None:
        self.taken[name] = keep(out if isinstance(out, Tensor) else out[0])


def _gram(out: Tensor) -> Tensor:
    """float64[b, b]: inner products of the centred representations float[b, …].

    Centring changes neither metric, and lets float32 do.
    """
    if out.dim() == 4 and max(out.shape[2:]) > SIDE:
        out = functional.adaptive_avg_pool2d(out, (min(out.shape[2], SIDE), min(out.shape[3], SIDE)))
    x = out.flatten(1)
    x = x - x.mean(0)
    return (x @ x.T).double().cpu()


def _channels(out: Tensor) -> Tensor:
    """float64[b, c]: each channel averaged over its map."""
    return (out.flatten(2).mean(2) if out.dim() > 2 else out).double().cpu()


class _Sums(Protocol):
    """What is kept of the batches for two networks."""

    @staticmethod
    def prepared(seen: list[Tensor]) -> Any:
        """What is done once for a network, however many it is compared with."""

    def add(self, one: Any, other: Any, y: Tensor | None) -> None:
        """One batch, prepared."""

    def result(self) -> tuple[Tensor, Tensor]:
        """Value and lower bound, float64[L₁, L₂]."""


@dataclass
class _Cka:
    batches: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @staticmethod
    def prepared(seen: list[Tensor]) -> Tensor:
        """float64[L, b · b]."""
        return debiased(torch.stack(seen)).flatten(1)

    def add(self, one: Tensor, other: Tensor, y: Tensor | None) -> None:
        self.batches.append((one @ other.T, one.square().sum(1), other.square().sum(1)))

    def result(self) -> tuple[Tensor, Tensor]:
        cross, own, others = (torch.stack(part) for part in zip(*self.batches, strict=True))
        value = _ratio(cross.sum(0), own.sum(0), others.sum(0))
        return value, _low(value, _ratio(cross, own, others))


@dataclass
class _Procrustes:
    batches: list[Tensor] = field(default_factory=list)

    @staticmethod
    def prepared(seen: list[Tensor]) -> Tensor:
        """float64[L, b, b]."""
        return _roots(torch.stack(seen))

    def add(self, one: Tensor, other: Tensor, y: Tensor | None) -> None:
        nuclear = torch.stack([torch.linalg.svdvals(root.mT @ other).sum(-1) for root in one])
        self.batches.append(nuclear / (_norms(one)[:, None] * _norms(other)).clamp(min=1e-30))

    def result(self) -> tuple[Tensor, Tensor]:
        each = torch.stack(self.batches)
        return each.mean(0), _low(each.mean(0), each)


@dataclass
class _Profile:
    sums: tuple[list[Tensor], list[Tensor]] | None = None
    counts: Tensor = field(default_factory=lambda: torch.zeros(0))

    @staticmethod
    def prepared(seen: list[Tensor]) -> list[Tensor]:
        """As it is seen."""
        return seen

    def add(self, one: list[Tensor], other: list[Tensor], y: Tensor | None) -> None:
        assert y is not None
        classes = max(int(y.max()) + 1, len(self.counts))
        member = functional.one_hot(y.cpu(), classes).double().T  # [C, b]
        sums = [member @ x for x in one], [member @ x for x in other]
        if self.sums is not None:
            sums = (
                [_longer(old, classes) + new for old, new in zip(self.sums[0], sums[0], strict=True)],
                [_longer(old, classes) + new for old, new in zip(self.sums[1], sums[1], strict=True)],
            )
        self.sums, self.counts = sums, _longer(self.counts[:, None].double(), classes)[:, 0] + member.sum(1)

    def result(self) -> tuple[Tensor, Tensor]:
        assert self.sums is not None
        known = self.counts > 0
        a, b = (
            torch.stack([_profile(total[known] / self.counts[known, None]) for total in side]) for side in self.sums
        )
        value = _ratio(a @ b.T, a.square().sum(1), b.square().sum(1))
        return value, torch.full_like(value, torch.nan)


_SUMS: Mapping[Metric, type[_Sums]] = {
    "cka": _Cka,
    "profile": _Profile,
    "procrustes": _Procrustes,
}


def _profile(means: Tensor) -> Tensor:
    """float64[C · C]: inner products of class means float64[C, c] around their centre."""
    centred = means - means.mean(0)
    flat: Tensor = (centred @ centred.T).flatten()
    return flat


def _longer(rows: Tensor, count: int) -> Tensor:
    return functional.pad(rows, (0, 0, 0, count - len(rows)))


def _ratio(cross: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Inner products over norms, 0 where a representation never changes."""
    size = (own[..., :, None] * others[..., None, :]).sqrt()
    found: Tensor = torch.where(size > 1e-20, cross / size.clamp(min=1e-30), 0.0)
    return found


def _roots(grams: Tensor) -> Tensor:
    """float64[L, b, b]: matrices of few rows with the Gram matrices of the given ones."""
    values, vectors = torch.linalg.eigh(grams)
    roots: Tensor = vectors * values.clamp(min=0).sqrt()[:, None, :]
    return roots


def _norms(roots: Tensor) -> Tensor:
    return roots.square().sum((-2, -1)).sqrt()


def _low(value: Tensor, each: Tensor) -> Tensor:
    """The lower end of the one-sided 95 % interval of a mean over batches, each: float64[k, L₁, L₂]."""
    count = len(each)
    if count < 3:
        return torch.full_like(value, torch.nan)
    from scipy.special import stdtrit

    beyond: Tensor = float(stdtrit(count - 1, 0.95)) * each.std(0) / count**0.5
    return value - beyond
