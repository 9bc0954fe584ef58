"""Run a network and look at each of its steps: where two runs part is where a fault lies.

A step is one call of a torch function, numbered as the trace numbers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.network import vocabulary
from surgery.network.rules import tensors

SAME = 1e-4  # relative difference below which two results count as equal: fp32 noise is 1e-6


@dataclass(frozen=True)
class Step:
    """One call of a run: its number, its function's plain name, and what was taken down of its results."""

    number: int
    name: str
    results: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} (step {self.number})"


@dataclass(eq=False)
class Recorder(TorchFunctionMode):
    """The mode: it takes down `of(result)` of every tensor that comes out of a call."""

    of: Callable[[int, int, Tensor], Any]  # number of the step, place among its results, result
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number = len(self.steps)
        self.steps.append(Step(number, vocabulary.plain_name(func)))  # also of a call that fails
        out = func(*args, **(kwargs or {}))
        found = tuple(self.of(number, place, result.detach()) for place, result in enumerate(tensors(out)))
        self.steps[number] = Step(number, self.steps[number].name, found)
        return out


def run(
    module: nn.Module,
    x: Tensor,
    of: Callable[[int, int, Tensor], Any],
    within: AbstractContextManager[object] | None = None,
) -> list[Step]:
    """The steps of one run up to its end, or to the step that fails; within: another mode, for instance a gate."""
    recorder = Recorder(of)
    try:
        with torch.no_grad(), within or nullcontext(), recorder:
            module(x)
    except Exception:  # the caller knows whether the network runs
        if not recorder.steps:
            raise
    return recorder.steps


def parted(first: Iterable[Step], second: Iterable[Step]) -> Step | None:
    """The first step of `second` that is not as in `first`: of another function, or with other results."""
    return next((b for a, b in zip(first, second, strict=False) if (a.name, a.results) != (b.name, b.results)), None)


def random(module: nn.Module, x: Tensor) -> Step | None:
    """The first step that gives other values in a second run on the same input; None where both end alike.

    What `empty` and its like hold is not looked at: it is still to be filled.
    """
    with torch.random.fork_rng(devices=[]):
        with torch.no_grad():
            ends = [tensors(module(x)) for _ in range(2)]
        if all(_alike(a, b, 1e-6) for a, b in zip(*ends, strict=False)):
            return None
        first, second = (run(module, x, _checksum) for _ in range(2))
        return parted(*([step for step in steps if "empty" not in step.name] for steps in (first, second)))


def reshaped(module: nn.Module, x: Tensor, other: Tensor) -> Step | None:
    """The step at which a run on `other` fails or has results of another number of axes than on `x`."""
    first, second = run(module, x, _axes), run(module, other, _axes)
    return parted(first, second) or (second[-1] if len(second) < len(first) else None)


def diverging(
    module: nn.Module,
    small: nn.Module,
    x: Tensor,
    masks: Callable[[int, int], Tensor | None],
    gate: AbstractContextManager[object],
) -> Step | None:
    """The first step at which a cut network gives something else than the gated one has in the same places.

    masks: which elements of a result are left after the cut: (step, place among its results) -> bool of its shape.
    """
    left: dict[tuple[int, int], Tensor] = {}
    after = run(small, x, lambda number, place, result: left.setdefault((number, place), result.clone()).shape)

    def compare(number: int, place: int, result: Tensor) -> bool:
        mask, cut = masks(number, place), left.get((number, place))
        if mask is None or cut is None or mask.shape != result.shape:
            return True
        kept = result[mask]
        return kept.numel() == cut.numel() and _alike(kept, cut.flatten())

    before = run(module, x, compare, gate)
    pairs = zip(before, after, strict=False)
    return next((a for a, b in pairs if a.name != b.name or not all(a.results)), None)


def _axes(_number: int, _place: int, result: Tensor) -> int:
    return result.dim()


def _checksum(_number: int, _place: int, result: Tensor) -> tuple[float, float]:
    """Two sums, of which the second depends on the order."""
    numbers = torch.view_as_real(result) if result.is_complex() else result
    numbers = numbers.double()
    places = torch.arange(numbers.numel(), dtype=torch.double).reshape(numbers.shape)
    weights = (places * 0.7548776662466927).frac()
    return float(numbers.sum()), float((numbers * weights).sum())


def _alike(a: Tensor, b: Tensor, within: float = SAME) -> bool:
    """Whether two results are equal up to a share of the largest value, NaN at the same places included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return bool((a == b).all())
    scale = float(b.abs().nan_to_num().max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=within * max(scale, 1e-30), equal_nan=True)
