"""Prove a numbering: cut the network, trace the small one again, and compare many cuts with the gated network.

The second trace catches a literal size or a reader that now reads other columns; the numbers catch what the trace
never saw. Each cut is compared on one of several inputs, in float64, with the weights as they are or disturbed (fresh
weights are often zero where trained ones are not). Besides, what the gate removes is replaced by noise where it is
computed: a gated network that changes then reads these neurons in a way that the trace did not see.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.errors import SurgeryError, TraceError
from surgery.network.index import NeuronIndex
from surgery.network.passes import FAILURES, SMALL, Pass, inputs, runs
from surgery.network.readers import Readers
from surgery.network.rules import tensors
from surgery.network.slicing import cut

EXACT, COARSE = 1e-7, 1e-4  # largest relative difference in float64, and where float32 takes part
SECONDS = 3.0  # of proof, after which no more than the least cuts are made
LEAST, SINGLE, RANDOM = 4, 40, 4  # cuts: in any case; of single groups; of random shares
LARGE = 1 << 27  # bytes of weights of which no further copies are made: they stay in float32, as they are
PATIENCE = 120.0  # seconds in which a fault is traced to a layer
Place = int | tuple[str, str]


@dataclass(frozen=True)
class Stop:
    """Why a trial failed, and where as far as that is known: steps of the trace, (layer, "rows" | "leaks" | "cols")."""

    reason: str
    places: frozenset[Place] = frozenset()


class Traced(Protocol):
    """What a trial needs of a second trace."""

    def index(self) -> NeuronIndex:
        """The numbering of the small network."""


class StepError(TraceError):
    """A torch function raised while the network ran; `step` counts the calls of the run."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(what, "Check that the input has the shape the network expects.")
        self.step = step


def sample(index: NeuronIndex, share: float, seed: int = 0, least: int = 0) -> Tensor:
    """keep: bool[N] without a random `share` of the removable groups of each layer; at least one stays per layer.

    least: groups that go from each layer that can lose them, whatever the share.
    """
    generator = torch.Generator().manual_seed(seed)
    keep = torch.ones(index.n, dtype=torch.bool)
    done = index.fixed.clone()
    for layer in index.layers.values():
        groups = index.group[layer.rows[~done[layer.rows]]].unique()
        groups = groups[~done[groups]]
        count = min(max(round(share * len(groups)), least), len(groups) - 1)
        if count > 0:
            chosen = groups[torch.randperm(len(groups), generator=generator)[:count]]
            keep &= ~torch.isin(index.group, chosen)
        done |= torch.isin(index.group, groups)
    return keep


def gated(module: nn.Module, x: Tensor, index: NeuronIndex, keep: Tensor) -> Tensor:
    """The output with every reader seeing zeros for removed neurons."""
    return first(_gated(module, Pass(x), index, keep))


def _gated(module: nn.Module, one: Pass, index: NeuronIndex, keep: Tensor, *, noise: bool = False) -> Any:
    """What a run returns with zeros for removed neurons where they are read; noise: and noise where written."""
    with gate(module, index, keep, noise=noise):
        return one.run(module)


def gate(module: nn.Module, index: NeuronIndex, keep: Tensor, *, noise: bool = False) -> Readers:
    """The mode inside which every reader sees zeros for removed neurons; noise: and noise stands where they write."""

    def masked(ids: Tensor, value: Tensor, axis: int) -> Tensor:
        mask = (ids < 0) | keep[ids.clamp(min=0)]
        return mask.to(value).reshape([-1 if a == axis % value.dim() else 1 for a in range(value.dim())])

    def before(layer: str, value: Tensor, axis: int) -> Tensor:
        known = index.layers.get(layer)  # one that the trace did not reach reads nothing that may go
        return value if known is None else value * masked(known.cols, value, axis)

    def after(layer: str, value: Tensor, axis: int) -> Tensor:
        known = index.layers.get(layer)
        if not noise or known is None:
            return value
        size = 3 * value.abs().mean() + 0.1
        other = size * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        return torch.where(masked(known.rows, value, axis) > 0, value, other)

    generator = torch.Generator().manual_seed(0)
    return Readers(module, before, after)


def first(out: Any) -> Tensor:
    """The first tensor of a model's output."""
    while not isinstance(out, Tensor):
        out = next(iter(out.values())) if isinstance(out, dict) else out[0]
    return out


def relative(a: Tensor, b: Tensor) -> float:
    """max|a − b| ÷ max|b|."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) if b.numel() else 0.0


def _apart(one: Any, other: Any) -> float:
    """The largest relative difference between the tensors of two outputs; NaN where numbers are missing."""
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    return max((relative(a, b) if a.shape == b.shape else float("inf") for a, b in pairs), default=0.0)


def trial(
    module: nn.Module, ways: Sequence[Pass], index: NeuronIndex, retrace: Callable[[nn.Module], Traced]
) -> Stop | None:
    """None when every cut of `module` holds; else why one does not, and the places to fix."""
    keep = sample(index, 0.3)
    if bool(keep.all()):
        return None
    return _retraced(module, index, keep, retrace) or Proof(module, ways, index).stop()


def _retraced(
    module: nn.Module, index: NeuronIndex, keep: Tensor, retrace: Callable[[nn.Module], Traced]
) -> Stop | None:
    """Whether every reader of the cut network reads the old kept neurons."""
    try:
        again = retrace(cut(module, index, keep))
    except StepError as error:
        return Stop(f"a size is written literally: {error.what}", frozenset([error.step]))
    except SurgeryError as error:
        return Stop(error.what)
    wrong = _other_columns(index, again.index(), keep)
    if wrong is None:
        return None
    places = frozenset([(wrong, "cols"), (wrong, "rows")] if wrong in index.layers else [])
    return Stop(f"after a cut, {wrong} reads other neurons than before", places)


@dataclass(frozen=True)
class Subject:
    """The network in one precision with one set of weights, and how exact its outputs are."""

    module: nn.Module
    tolerance: float
    double: bool

    def suit(self, one: Pass) -> Pass:
        """A run in the precision of the weights."""
        return one.double() if self.double else one


class Proof:
    """Compares cuts of a network with the gated one, until the time is up, and says which layers are at fault."""

    def __init__(self, module: nn.Module, ways: Sequence[Pass], index: NeuronIndex) -> None:
        self.index = index
        self.start = time.monotonic()
        found = [*ways, *(one for x in inputs(ways[0].x) if runs(module, one := Pass(x)))]
        if ways[0].answers:
            found.insert(1, Pass(ways[0].x))  # the cut network decides by itself
        short = [one for one in found if len(one.x) == 1 or one.answers]
        self.ways = short if short and ways[0].x[:1].numel() > SMALL else found
        self.subjects = subjects(module, self.ways[0])

    def stop(self) -> Stop | None:
        """None when all cuts hold; else the reason, and the layers on which it depends."""
        whole, one = self.subjects[0], self.subjects[0].suit(self.ways[0])
        if _apart(one.run(whole.module), one.run(whole.module)) > whole.tolerance:
            return Stop("its outputs are random: two runs on one input differ")
        for number, keep in enumerate(cuts(self.index)):
            if number >= LEAST and time.monotonic() - self.start > SECONDS:
                return None
            subject = self.subjects[number % len(self.subjects)]
            way = self.ways[number // len(self.subjects) % len(self.ways)]
            if fault := self.fault(subject, way, keep):
                return self.located(subject, way, keep, fault)
        return None

    def fault(self, subject: Subject, way: Pass, keep: Tensor) -> tuple[str, str] | None:
        """The kind ("rows" or "leaks") and the words of what is wrong after a cut; None when it holds."""
        one = subject.suit(way)
        try:
            whole = _gated(subject.module, one, self.index, keep)
            other = _gated(subject.module, one, self.index, keep, noise=True)
        except FAILURES as error:  # only what follows from these inputs or weights: the whole network runs
            return ("rows", f"the gated network fails: {error}") if not runs(subject.module, one) else None
        if not all(bool(torch.isfinite(t.double()).all()) for t in tensors(whole)):
            return None
        if _apart(other, whole) > subject.tolerance:
            return "leaks", "their values reach the output where the trace cannot follow"
        try:
            off = _apart(one.run(cut(subject.module, self.index, keep)), whole)
        except FAILURES as error:
            return "rows", f"the cut network fails: {str(error).splitlines()[0][:160] if str(error) else error!r}"
        if not off <= subject.tolerance:
            return "rows", f"after a cut the outputs differ by {off:.1e} from the gated network"
        return None

    def located(self, subject: Subject, way: Pass, keep: Tensor, fault: tuple[str, str]) -> Stop:
        """The same cut, layer by layer: those that fail alone are at fault."""
        places: set[Place] = set()
        for layer in self.index.layers.values():
            if time.monotonic() - self.start > PATIENCE:
                break
            gone = torch.isin(self.index.group, self.index.group[layer.rows[~keep[layer.rows]]])
            if bool(gone.any()) and (own := self.fault(subject, way, ~gone)):
                places.add((layer.name, own[0]))
        return Stop(fault[1], frozenset(places))


def cuts(index: NeuronIndex) -> Iterator[Tensor]:
    """keep: bool[N] of each cut: shares of every layer, one group of every layer, single groups, random shares."""
    generator = torch.Generator().manual_seed(2)
    for seed, share in enumerate((0.5, 0.9, 0.0, 0.3, 0.9, 0.5, 0.3, 0.0)):  # twice: with both sets of weights
        yield sample(index, share, seed, least=1)
    singles = []
    for layer in index.layers.values():
        groups = index.group[layer.rows[~index.fixed[layer.rows]]].unique()
        if len(groups) > 1:
            singles.append(groups[torch.randint(len(groups), (1,), generator=generator)])
    order = torch.randperm(len(singles), generator=generator).tolist()
    for place in order[:SINGLE]:
        yield ~torch.isin(index.group, singles[place])
    for seed in range(8, 8 + RANDOM):
        yield sample(index, float(torch.rand(1, generator=generator)), seed, least=1)


def subjects(module: nn.Module, one: Pass) -> list[Subject]:
    """The network in float64 where it runs so, with its weights and with disturbed ones."""
    if sum(p.numel() * p.element_size() for p in module.parameters()) > LARGE:
        return [Subject(module, COARSE, False)]
    exact = copy.deepcopy(module).double()
    watch = _Narrow()
    with watch:
        double = runs(exact, one.double())
    tolerance = EXACT if double and not watch.found else COARSE
    own = exact if double else module
    other = disturbed(own)
    found = [Subject(own, tolerance, double)]
    if runs(other, one.double() if double else one):
        found.append(Subject(other, tolerance, double))
    return found


class _Narrow(TorchFunctionMode):
    """Notes whether numbers of less than float64 take part."""

    found = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        narrow = (t for t in tensors(out) if t.is_floating_point() and t.dtype != torch.float64)
        self.found = self.found or any(t.numel() > 1 for t in narrow)
        return out


def disturbed(module: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with noise on every weight, and other means and variances of batch norm."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(module)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)

    with torch.no_grad():
        for weight in other.parameters():
            if weight.is_floating_point():
                spread = float(weight.std()) if weight.numel() > 1 else 0.0
                weight.add_(noise(weight) * (0.5 * spread or 0.1))
        for name, value in other.named_buffers():
            if name.endswith("running_mean"):
                value.add_(0.2 * noise(value))
            elif name.endswith("running_var"):
                value.mul_(1 + noise(value).abs())
    return other


def _other_columns(old: NeuronIndex, new: NeuronIndex, keep: Tensor) -> str | None:
    """The first layer that, after the cut, does not write or read the old kept neurons."""
    if new.n != int(keep.sum()):
        return "the network"
    place = torch.full((new.n,), -1, dtype=torch.long)  # new id -> old one: the same row of the same layer
    for name, layer in old.layers.items():
        rows = layer.rows[keep[layer.rows]]
        if name not in new.layers or len(rows) != len(new.layers[name].rows):
            return name
        place[new.layers[name].rows] = rows
    groups = torch.cat([old.group, torch.tensor([-1])])
    for name, layer in old.layers.items():
        left = layer.cols[(layer.cols < 0) | keep[layer.cols.clamp(min=0)]]
        after = new.layers[name].cols
        if not torch.equal(groups[left], groups[torch.where(after >= 0, place[after.clamp(min=0)], -1)]):
            return name
    return None
