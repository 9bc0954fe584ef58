"""Try a numbering: cut at random, trace the small network again, and compare it with the gated one.

The second trace catches a literal size or a reader that now reads other columns; the numbers catch what the trace
never saw. Each finds what the other misses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from surgery.errors import SurgeryError, TraceError
from surgery.network.index import NeuronIndex
from surgery.network.readers import Readers
from surgery.network.slicing import cut

TOLERANCE = 1e-4  # fp32 noise is 1e-6; a wrong numbering was never seen below 1e-2
SURELY_WRONG = 0.1


@dataclass(frozen=True)
class Stop:
    """Why a trial failed, and at which step of the trace when that is known."""

    reason: str
    step: int | None = None


class Traced(Protocol):
    """What a trial needs of a second trace."""

    def index(self) -> NeuronIndex:
        """The numbering of the small network."""


class StepError(TraceError):
    """A torch function raised while the network ran; `step` counts the calls of the run."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(what, "Check that the input has the shape the network expects.")
        self.step = step


def sample(index: NeuronIndex, share: float, seed: int = 0) -> Tensor:
    """keep: bool[N] without a random `share` of the removable groups of each layer; at least one stays per layer."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.ones(index.n, dtype=torch.bool)
    done = index.fixed.clone()
    for layer in index.layers.values():
        groups = index.group[layer.rows[~done[layer.rows]]].unique()
        groups = groups[~done[groups]]
        count = min(round(share * len(groups)), len(groups) - 1)
        if count > 0:
            chosen = groups[torch.randperm(len(groups), generator=generator)[:count]]
            keep &= ~torch.isin(index.group, chosen)
        done |= torch.isin(index.group, groups)
    return keep


def gated(module: nn.Module, x: Tensor, index: NeuronIndex, keep: Tensor) -> Tensor:
    """The output with every reader seeing zeros for removed neurons."""

    def before(layer: str, value: Tensor, axis: int) -> Tensor:
        cols = index.layers[layer].cols
        mask = (cols < 0) | keep[cols.clamp(min=0)]
        return value * mask.to(value).reshape([-1 if a == axis % value.dim() else 1 for a in range(value.dim())])

    with torch.no_grad(), Readers(module, before):
        return first(module(x))


def first(out: Any) -> Tensor:
    """The first tensor of a model's output."""
    while not isinstance(out, Tensor):
        out = next(iter(out.values())) if isinstance(out, dict) else out[0]
    return out


def relative(a: Tensor, b: Tensor) -> float:
    """max|a − b| ÷ max|b|."""
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def trial(
    module: nn.Module, example: Tensor, index: NeuronIndex, retrace: Callable[[nn.Module], Traced]
) -> Stop | None:
    """None when a random 30 % cut of `module` holds; else why not, and the step to fix."""
    keep = sample(index, 0.3)
    if bool(keep.all()):
        return None
    small = cut(module, index, keep)
    try:
        again = retrace(small)
    except StepError as error:
        return Stop(f"a size is written literally: {error.what}", error.step)
    except SurgeryError as error:
        return Stop(error.what)
    try:
        off = _difference(module, small, noise(example), index, keep)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        return Stop(f"the cut network fails: {error}")
    wrong = _other_columns(index, again.index(), keep)
    if wrong:
        return Stop(f"after a cut, {wrong} reads other neurons than before")
    if not off <= TOLERANCE:
        return Stop(f"after a cut the outputs differ by {off:.1e} from the gated network")
    return None


def noise(example: Tensor) -> Tensor:
    """Another input of the same shape: noise, or for token ids other ids that occur."""
    generator = torch.Generator().manual_seed(1)
    if example.is_floating_point():
        return torch.randn(example.shape, generator=generator)
    return example.flatten()[torch.randperm(example.numel(), generator=generator)].reshape(example.shape)


def _difference(module: nn.Module, small: nn.Module, x: Tensor, index: NeuronIndex, keep: Tensor) -> float:
    """How far the cut network is from the gated one on noise; in float64 where float32 leaves it open.

    Deep networks with unfortunate weights amplify rounding: a wrong numbering is off in float64 just the same.
    """
    with torch.no_grad():
        off = relative(first(small(x)), gated(module, x, index, keep))
        if TOLERANCE < off < SURELY_WRONG:
            exact, fine = copy.deepcopy(module).double(), x.double() if x.is_floating_point() else x
            off = relative(first(copy.deepcopy(small).double()(fine)), gated(exact, fine, index, keep))
    return off


def _other_columns(old: NeuronIndex, new: NeuronIndex, keep: Tensor) -> str | None:
    """The first layer whose rows or columns, after the cut, are not the old kept ones."""
    kept = keep.nonzero().flatten()
    if new.n != len(kept):
        return "the network"
    groups = torch.cat([old.group, torch.tensor([-1])])
    for name, layer in old.layers.items():
        if name not in new.layers:
            return name
        for before, after in ((layer.rows, new.layers[name].rows), (layer.cols, new.layers[name].cols)):
            left = before[(before < 0) | keep[before.clamp(min=0)]]
            mapped = torch.where(after >= 0, kept[after.clamp(min=0)], -1)
            if not torch.equal(groups[left], groups[mapped]):
                return name
    return None
