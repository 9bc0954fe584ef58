"""A forward pass as a list of calls: which tensor every call reads, makes and changes in place.

A model in eval mode makes the same torch calls in the same order every time, so the list, learned once on two
samples, tells what must be known to start in the middle: the *frontier* of call k is every tensor made before k
that k or a later call still reads. Tensors are numbered in order of creation; tensor 0 is the model's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]
PLAIN = (type(None), bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)


class DivergedError(Exception):
    """A pass made other calls than its tape: the replay gives up and the caller runs the model in full."""


class OpaqueError(Exception):
    """A call returned something that may hide tensors or be changed later: an iterator, an array, a storage."""


@dataclass(frozen=True)
class Made:
    """Stands in a recorded result for tensor number `number`."""

    number: int


@dataclass(frozen=True)
class Call:
    """One torch call of the forward pass; the sets hold tensor numbers, `writes` holds storages."""

    function: Function
    reads: frozenset[int]
    makes: tuple[int, ...]
    writes: frozenset[int]
    opaque: bool

    @property
    def tensorless(self) -> bool:
        """Whether it only sets or asks for something global, such as `set_grad_enabled`."""
        return not (self.reads or self.makes)


@dataclass
class Tape:
    """The calls of one forward pass over `samples` samples, and the tensors they make."""

    samples: int
    calls: list[Call] = field(default_factory=list)
    born: list[int] = field(default_factory=list)  # the call that makes each tensor; -1 for the input
    size: list[int] = field(default_factory=list)  # bytes
    storage: list[int] = field(default_factory=list)
    outputs: frozenset[int] = frozenset()
    readers: dict[str, int] = field(default_factory=dict)  # layer name -> the first call that reads its weight

    @cached_property
    def last_read(self) -> list[int]:
        """The last call that reads each tensor, -1 for none; what the model returns is read at the very end."""
        last = [-1] * len(self.born)
        for position, call in enumerate(self.calls):
            for number in call.reads:
                last[number] = position
        for number in self.outputs:
            last[number] = len(self.calls)
        return last

    def expect(self, position: int, function: Function) -> Call:
        """The call at `position`.

        Raises:
            DivergedError: when the pass makes another call there.
        """
        if position >= len(self.calls) or self.calls[position].function != function:
            raise DivergedError(f"call {position} is {getattr(function, '__name__', function)}")
        return self.calls[position]

    def frontier(self, cut: int) -> frozenset[int]:
        """The tensors made before call `cut` that it or a later one reads."""
        last = self.last_read
        return frozenset(n for n, born in enumerate(self.born) if born < cut <= last[n])

    def cuttable(self, cut: int) -> bool:
        """Whether a pass may start at call `cut`.

        Not after an opaque result, and not where two frontier tensors share memory that is later written: their
        copies would no longer be views of each other.
        """
        if any(call.opaque for call in self.calls[:cut]):
            return False
        held = [self.storage[number] for number in self.frontier(cut)]
        shared = {storage for storage in held if held.count(storage) > 1}
        return not any(call.writes & shared for call in self.calls[cut:])

    def choose(self, memory: int, samples: int) -> tuple[int, ...]:
        """The cuts whose frontiers over `samples` samples fit in `memory` bytes together, late ones first.

        Candidates are the input and the first reader of each layer. A tensor that several cuts need counts once
        unless it was written in between.
        """
        held: set[tuple[int, int]] = set()
        chosen: list[int] = []
        free = memory
        for cut in sorted({0, *self.readers.values()}, reverse=True):
            more = self._values(cut) - held
            cost = sum(self.size[number] for number, _ in more) * -(-samples // self.samples)
            if cost <= free and self.cuttable(cut):
                free -= cost
                held |= more
                chosen.append(cut)
        return tuple(reversed(chosen))

    def _values(self, cut: int) -> set[tuple[int, int]]:
        """The frontier as (tensor, how often its memory was written before the cut)."""
        return {(n, sum(self.storage[n] in call.writes for call in self.calls[:cut])) for n in self.frontier(cut)}


def learn(forward: Callable[[Tensor], Tensor], x: Tensor, weights: Mapping[str, Tensor]) -> Tape:
    """Run `forward` on a small x: float[samples, ...] and note its calls; `weights` are the layers to find."""
    tape = Tape(len(x))
    with torch.no_grad(), _Learning(tape, x, weights) as learning:
        tape.outputs = learning.numbers((forward(x),))
    return tape


class _Learning(TorchFunctionMode):
    """Fills a tape. Every tensor is kept alive meanwhile, so that no identity and no storage is used twice."""

    def __init__(self, tape: Tape, x: Tensor, weights: Mapping[str, Tensor]) -> None:
        self.tape = tape
        self.alive: list[Tensor] = []
        self.number: dict[int, int] = {}
        self.layers: dict[int, list[str]] = {}
        for name, weight in weights.items():
            self.layers.setdefault(id(weight), []).append(name)
        self._make(x, -1)

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = list(tensors((args, kwargs or {})))
        before = [_version(tensor) for tensor in given]
        result = func(*args, **(kwargs or {}))
        position = len(self.tape.calls)
        for name in (name for tensor in given for name in self.layers.get(id(tensor), ())):
            self.tape.readers.setdefault(name, position)
        writes = {_storage(tensor) for tensor, old in zip(given, before, strict=True) if _version(tensor) != old}
        reads = self.numbers(given)
        try:
            made = tuple(self._make(tensor, position) for tensor in tensors(result, strict=True))
            opaque = False
        except OpaqueError:
            made, opaque = (), True
        self.tape.calls.append(Call(func, reads, made, frozenset(writes), opaque))
        return result

    def numbers(self, given: Iterable[Tensor]) -> frozenset[int]:
        """The numbers of those tensors that this pass made; parameters and constants have none."""
        return frozenset(self.number[id(tensor)] for tensor in given if id(tensor) in self.number)

    def _make(self, tensor: Tensor, position: int) -> int:
        if id(tensor) not in self.number:
            self.number[id(tensor)] = len(self.alive)
            self.alive.append(tensor)
            self.tape.born.append(position)
            self.tape.size.append(tensor.numel() * tensor.element_size())
            self.tape.storage.append(_storage(tensor))
        return self.number[id(tensor)]


def tensors(value: Any, *, strict: bool = False) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dicts.

    Raises:
        OpaqueError: if `strict`, at anything that is neither a container, a tensor nor a plain immutable value.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item, strict=strict)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item, strict=strict)
    elif strict and not isinstance(value, PLAIN):
        raise OpaqueError(type(value).__name__)


def swap(value: Any, kind: type, by: Callable[[Any], Any]) -> Any:
    """A copy of nested tuples, lists and dicts in which each leaf of class `kind` is replaced by `by(leaf)`."""
    if isinstance(value, kind):
        return by(value)
    if isinstance(value, dict):
        return {key: swap(item, kind, by) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [swap(item, kind, by) for item in value]
        return getattr(type(value), "_make", type(value))(items)
    return value


def _version(tensor: Tensor) -> int:
    """How often the memory of a tensor was written in place; inference tensors do not count."""
    return -1 if tensor.is_inference() else tensor._version


def _storage(tensor: Tensor) -> int:
    """What identifies the memory of a tensor; an own number for one without memory."""
    address = tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0
    return address or -id(tensor)
