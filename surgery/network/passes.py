"""The runs that a numbering is learned and proven on: several inputs, and decisions taken both ways.

Code that decides by values may take another way on other inputs. Each decision of the first run is therefore also
answered the other way, and more inputs are tried. A network that decides nothing needs one run to be learned.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.network import rules, vocabulary

# What a network's own code may raise, for instance because a cut left it fewer pieces than it unpacks.
FAILURES = (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError, ArithmeticError)
FLIPS = 12  # decisions that are also taken the other way
SECONDS = 20.0  # that the further runs may take together
SMALL = 1 << 14  # values of a sample: only of these a larger batch is tried


@dataclass(frozen=True)
class Pass:
    """One run: an input, and the answers that its first decisions get, whatever the values are."""

    x: Tensor
    answers: tuple[bool, ...] = ()

    def run(self, module: nn.Module) -> Any:
        """What `module` returns."""
        with torch.no_grad(), Decisions(self.answers):
            return module(self.x.clone())

    def double(self) -> Pass:
        """The same in float64."""
        return replace(self, x=self.x.double()) if self.x.is_floating_point() else self


class Decisions(TorchFunctionMode):
    """Notes whether code depends on values and how it decides; its first decisions get the given answers."""

    def __init__(self, answers: tuple[bool, ...] = ()) -> None:
        super().__init__()
        self.answers, self.depends = answers, False
        self.given: list[bool] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not decides(func, args, kwargs or {}, out):
            return out
        self.depends = True
        if not isinstance(out, bool):
            return out
        place = len(self.given)
        self.given.append(self.answers[place] if place < len(self.answers) else out)
        return self.given[-1]


def decides(func: Any, args: Any, kwargs: Any, out: Any) -> bool:
    """Whether a call turns values into a Python object or into a shape."""
    rule = vocabulary.rule_for(func)
    if rule is rules.nothing or out is None:
        return False
    if not rules.tensors(out) and rules.tensors([args, kwargs]):
        return not (isinstance(out, (tuple, list)) and not out)
    if vocabulary.plain_name(func) == "one_hot":
        return bool(rules.Call("one_hot", func, args, kwargs, out).argument(1, "num_classes", -1) < 0)
    return vocabulary.shaped_by_values(func) or rules.masks(vocabulary.plain_name(func), args, kwargs)


def passes(module: nn.Module, example: Tensor) -> tuple[list[Pass], bool]:
    """The runs to learn a numbering from, `example` first, and whether the network's code depends on values.

    Each holds all its decisions, so that a cut network takes the same way.
    """
    start = time.monotonic()
    first = _decided(module, Pass(example))
    if first is None:
        return [Pass(example)], False  # the trace says what fails
    way, depends = first
    found = [way]
    if depends:
        flips = [Pass(example, (*way.answers[:k], not way.answers[k])) for k in range(min(len(way.answers), FLIPS))]
        for one in [*flips, *(Pass(x) for x in inputs(example))]:
            if time.monotonic() - start < SECONDS and (other := _decided(module, one)):
                found.append(other[0])
    return found, depends


def _decided(module: nn.Module, one: Pass) -> tuple[Pass, bool] | None:
    """A run with all its decisions, and whether code depends on values; None when the network fails there."""
    seen = Decisions(one.answers)
    try:
        with torch.no_grad(), seen:
            module(one.x.clone())
    except FAILURES:
        return None
    return replace(one, answers=tuple(seen.given)), seen.depends


def inputs(example: Tensor) -> list[Tensor]:
    """More inputs of the kind of `example: float[batch, ...]`: noise of several scales, a batch of one, a larger one.

    Of token ids (int64) others that occur in the example.
    """
    generator = torch.Generator().manual_seed(1)
    count = 8 if example[:1].numel() <= SMALL else 1
    if example.is_floating_point():
        noise = torch.randn((count, *example.shape[1:]), generator=generator)
        return [noise, 3 * noise[:2], 0.1 * noise[:2] - 0.5, example[:1]]
    order = torch.randint(example.numel(), (count, *example.shape[1:]), generator=generator)
    return [example.flatten()[order], example[:1]]


def runs(module: nn.Module, one: Pass) -> bool:
    """Whether the network runs on this at all."""
    try:
        one.run(module)
    except FAILURES:
        return False
    return True
