"""Forward passes that start in the middle: the what-if engine.

Silencing neurons changes nothing before the first layer that reads one of them. A recording keeps, for a fixed set
of samples, the frontiers (see tape) of as many such layers as fit in memory; a pass from there gets the frontier
and empty stand-ins for the rest, and runs in earnest from its cut on, under whatever mode was entered before. Every
answer is checked against a full pass on two samples; what is not exact, or takes another way, is run in full.

    with gate(index, value, means):
        rerun = recording.rerun(touched(index, gone))
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from surgery.analysis.tape import DivergedError, Function, Made, Tape, learn, swap, tensors
from surgery.context import Context
from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.network.readers import layer_name

GIBIBYTE = 2**30
TOLERANCE = 1e-6  # relative, between a replay and a full pass


class Batches(Protocol):
    """Inputs float[batch, *input.shape] that can be gone through again: a list, or a reader of a dataset."""

    def __len__(self) -> int:
        """How many batches."""

    def __iter__(self) -> Iterator[Tensor]:
        """From the first one, each time."""


@dataclass
class Frames:
    """What one batch left behind: the result of every call, without the tensors, and the frontiers by cut.

    A tensor that is not on the frontier has a stand-in of its shape and type that takes no memory.
    """

    results: list[Any] = field(default_factory=list)
    blanks: dict[int, Tensor] = field(default_factory=dict)
    frontiers: dict[int, dict[int, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rerun:
    """Outputs float[samples, classes] of all samples, and the share of the calls (0–1) that were not made again."""

    outputs: Tensor
    skipped: float


@dataclass(frozen=True)
class Recording:
    """A model over a fixed set of samples: its outputs as it is, and quick ones once something is silenced."""

    model: Model
    batches: Batches
    outputs: Tensor  # float[samples, classes], on the CPU
    tape: Tape
    cuts: tuple[int, ...]  # the calls a pass can start from; empty: every pass is a full one
    frames: tuple[Frames, ...]
    proof: tuple[Tensor, Frames]  # two samples, on which every answer is checked

    @property
    def bytes(self) -> int:
        """Memory of the frontiers."""
        held = {id(t): t for frame in self.frames for front in frame.frontiers.values() for t in front.values()}
        return sum(tensor.numel() * tensor.element_size() for tensor in held.values())

    def cut(self, layers: Collection[str]) -> int | None:
        """The call to start from when only what `layers` read is changed; None when the model must run in full."""
        first = min((self.tape.readers.get(name, 0) for name in layers), default=0)
        return max((cut for cut in self.cuts if cut <= first), default=None)

    def rerun(self, layers: Collection[str]) -> Rerun:
        """All samples again, under the modes already entered, of which only `layers` may feel a difference."""
        if not layers:
            return Rerun(self.outputs, 1.0)
        cut = self.cut(layers)
        if cut is None or not self._exact(cut):
            return Rerun(_outputs(self.model, self.batches), 0.0)
        passes = [self._replayed(number, cut) for number in range(len(self.batches))]
        replayed = sum(quick for _, quick in passes) / len(passes)
        return Rerun(torch.cat([y.cpu() for y, _ in passes]), replayed * cut / len(self.tape.calls))

    def _exact(self, cut: int) -> bool:
        """Whether two samples come out of the cut as out of a full pass, under the same modes.

        They do not after code that torch functions do not show (a scripted function, numpy) and random numbers.
        """
        x, frames = self.proof
        try:
            quick = replay(self.model, self.tape, frames, cut)
        except (DivergedError, RuntimeError):  # torch raises RuntimeError where hidden code meets a stand-in
            return False
        with torch.no_grad():
            full = self.model(x)
        return torch.allclose(quick, full, rtol=0, atol=TOLERANCE * float(full.abs().max()), equal_nan=True)

    def _replayed(self, number: int, cut: int) -> tuple[Tensor, bool]:
        """Outputs of one batch and whether they came from the cut: a pass that diverges is made again in full."""
        try:
            return replay(self.model, self.tape, self.frames[number], cut), True
        except DivergedError:
            with torch.no_grad():
                return self.model(next(islice(self.batches, number, None))), False


def touched(index: NeuronIndex, gone: Tensor) -> list[str]:
    """Names of the layers that read a neuron of gone: bool[N]."""
    return [name for name, layer in index.layers.items() if gone[layer.cols[layer.cols >= 0]].any()]


def weights(model: Model) -> dict[str, Tensor]:
    """The weight of every layer of the index, by layer name."""
    layers = model.index.layers if model.index else {}
    named = {layer_name(name): parameter for name, parameter in model.module.named_parameters()}
    return {name: named[name] for name in layers if name in named}


def record(model: Model, batches: Batches, ctx: Context | None = None, *, memory: int = GIBIBYTE) -> Recording:
    """Run the model over `batches` once and keep as many frontiers as fit in `memory` bytes, late ones first."""
    ctx = ctx or Context()
    first = next(iter(batches))
    tape = learn(model, first[:2], weights(model))
    cuts = tape.choose(memory, len(first) * len(batches))
    outputs, frames = [], []
    try:
        _, few = fill(model, tape, cuts, first[:2])
        for x in ctx.track(batches, "warming up", total=len(batches)):
            y, frame = fill(model, tape, cuts, x)
            outputs.append(y.cpu())
            frames.append(frame)
    except DivergedError:
        return Recording(model, batches, _outputs(model, batches), tape, (), (), (first[:2], Frames()))
    return Recording(model, batches, torch.cat(outputs), tape, cuts, tuple(frames), (first[:2], few))


def _outputs(model: Model, batches: Batches) -> Tensor:
    """Outputs of full passes, on the CPU."""
    with torch.no_grad():
        return torch.cat([model(x).cpu() for x in batches])


def fill(model: Model, tape: Tape, cuts: Collection[int], x: Tensor) -> tuple[Tensor, Frames]:
    """Run x and keep what passes from `cuts` need.

    Raises:
        DivergedError: when x takes another way through the model than the tape.
    """
    with torch.no_grad(), _Filling(tape, cuts, x) as filling:
        y = model(x)
    if len(filling.frames.results) != len(tape.calls):
        raise DivergedError("the pass ended early")
    return y, filling.frames


def replay(model: Model, tape: Tape, frames: Frames, cut: int, *, learning: bool = False) -> Tensor:
    """Outputs of the batch that made `frames`, in which only calls from `cut` on are made.

    learning: the outputs can be differentiated, as far as those calls go.

    Raises:
        DivergedError: when the model takes another way than the tape, or asks for a tensor that was not kept.
    """
    with torch.set_grad_enabled(learning), _Replaying(tape, frames, cut) as replaying:
        y = model(replaying.tensor(Made(0)))
    if replaying.position != len(tape.calls) or id(y) in replaying.blank:
        raise DivergedError("the pass ended early")
    return y


class _Filling(TorchFunctionMode):
    """Copies each frontier just before its cut: a copy, because what follows may write in place."""

    def __init__(self, tape: Tape, cuts: Collection[int], x: Tensor) -> None:
        self.tape = tape
        self.frames = Frames()
        self.wanted = {cut: tape.frontier(cut) for cut in cuts}
        self.until = {number: cut for cut in sorted(cuts) for number in self.wanted[cut]}  # the last cut in need
        self.alive: dict[int, Tensor] = {}
        self.copies: dict[int, tuple[int, Tensor]] = {}  # tensor number -> version, copy
        self._keep(0, x)

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        position = len(self.frames.results)
        call = self.tape.expect(position, func)
        if position in self.wanted:
            self._copy(position)
        result = func(*args, **(kwargs or {}))
        if len(list(tensors(result))) != len(call.makes) and not call.opaque:
            raise DivergedError(f"call {position} makes another number of tensors")
        numbers = iter(call.makes)
        kept = None if call.opaque else swap(result, Tensor, lambda made: self._keep(next(numbers), made))
        self.frames.results.append(kept)
        return result

    def _keep(self, number: int, tensor: Tensor) -> Made:
        self.frames.blanks[number] = torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)
        if number in self.until:
            self.alive[number] = tensor
        return Made(number)

    def _copy(self, cut: int) -> None:
        """Two cuts share the copy of a tensor that was not written in between."""
        for number in self.wanted[cut]:
            tensor = self.alive[number]
            if self.copies.get(number, (-1, tensor))[0] != tensor._version:
                self.copies[number] = (tensor._version, tensor.clone())
            if self.until[number] == cut:
                del self.alive[number]
        self.frames.frontiers[cut] = {number: self.copies[number][1] for number in self.wanted[cut]}


class _Replaying(TorchFunctionMode):
    """Answers calls before the cut from the frames and makes the later ones.

    Frontier tensors are handed out as copies, so that writing in place cannot reach the recording.
    """

    def __init__(self, tape: Tape, frames: Frames, cut: int) -> None:
        self.tape = tape
        self.frames = frames
        self.cut = cut
        self.position = 0
        self.held = {number: tensor.clone() for number, tensor in frames.frontiers[cut].items()}
        self.blank = {id(tensor) for tensor in frames.blanks.values()}

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        call = self.tape.expect(self.position, func)
        self.position += 1
        if self.position <= self.cut and not call.tensorless:
            return swap(self.frames.results[self.position - 1], Made, self.tensor)
        if any(id(tensor) in self.blank for tensor in tensors((args, kwargs or {}))):
            raise DivergedError(f"call {self.position - 1} reads a tensor that was not kept")
        return func(*args, **(kwargs or {}))

    def tensor(self, made: Made) -> Tensor:
        """What the model gets for a tensor: its values on the frontier, else the stand-in."""
        return self.held[made.number] if made.number in self.held else self.frames.blanks[made.number]
