"""Where a network can be cut in two: modules whose result is all that the rest of the network still needs.

Found by running: a module qualifies when the rest, given its result and other samples as input, says exactly what the
network said. So skips around a cut, tokens made before it and in-place changes of it are found without a rule for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import TraceError
from surgery.network.cost import macs_per_layer
from surgery.network.fleet import Back, Front, Tap, replaced
from surgery.network.model import Model
from surgery.network.size import distinct

RECORDED, CHECKED = 2, 3  # samples; two numbers, to tell the batch axis from others


@dataclass(frozen=True, eq=False)
class Cut:
    """A network ends in front of here, or begins.

    name: the module whose result is the representation. shape: of one sample's.
    blanks: the modules that run before it -> the shapes of what they give, −1 for the batch; later: those that begin
    after it. bytes: of tensors that only `blanks` and the module itself hold; macs: multiply-accumulates up to here.
    """

    name: str
    shape: tuple[int, ...]
    blanks: Mapping[str, tuple[int, ...]]
    later: tuple[str, ...]
    bytes: int
    macs: int

    @property
    def size(self) -> int:
        """Numbers in the representation of one sample."""
        return math.prod(self.shape)


@dataclass
class _Call:
    """When a module began and ended, and what it gave."""

    begun: int
    ended: int = -1
    out: Any = None


def cuts_of(model: Model) -> tuple[Cut, ...]:
    """The cuts of a network in order of execution. The first has weights before it and the last has some after it.

    Of modules with one and the same result, or between which neither multiplications lie nor the shape changes, the
    last to end is the cut.

    Raises:
        TraceError: the network can be cut nowhere.
    """
    module = model.module
    x = model.input.example(RECORDED)
    calls, out = _watched(module, x)
    names = _candidates(calls, out)
    proof = _Proof.of(module, names, model.input.example(CHECKED, seed=1))
    costs = macs_per_layer(model)
    found: list[Cut] = []
    for name in names:
        call = calls[name][0]
        blanks = _blanks(module, calls, call, name)
        later = _outermost(module, {path for path, own in calls.items() if own[0].begun > call.ended})
        gone = _weights(module, [*blanks, name])
        left = _weights(module, []).keys() - gone.keys()
        if not gone or not left or not proof.holds(name, blanks, later):
            continue
        macs = sum(costs.get(path, 0) for path in (*blanks, name))
        cut = Cut(name, tuple(call.out.shape[1:]), blanks, later, sum(gone.values()), macs)
        if found and (found[-1].macs, found[-1].shape) == (macs, cut.shape):
            found.pop()
        found.append(cut)
    if not found:
        raise TraceError(
            f"{model.architecture.name} can be cut nowhere: at no module does the rest need its result alone.",
            "Share models whose blocks follow one another.",
        )
    return tuple(found)


def _watched(module: nn.Module, x: Tensor) -> tuple[dict[str, list[_Call]], list[Tensor]]:
    """The calls of every module in a pass, and what came out."""
    calls: dict[str, list[_Call]] = {}
    clock = 0
    names = {part: name for name, part in module.named_modules() if name}
    paths = {name: part for part, name in names.items()}

    def begin(part: nn.Module, _: Any) -> None:
        nonlocal clock
        clock += 1
        calls.setdefault(names[part], []).append(_Call(clock))

    def end(part: nn.Module, _: Any, out: Any) -> None:
        nonlocal clock
        clock += 1
        call = calls[names[part]][-1]
        call.ended, call.out = clock, out

    hooks = [part.register_forward_pre_hook(begin) for part in paths.values()]
    hooks += [part.register_forward_hook(end) for part in paths.values()]
    try:
        with torch.no_grad():
            out = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, _tensors(out)


def _candidates(calls: Mapping[str, list[_Call]], out: list[Tensor]) -> list[str]:
    """Modules that ran once and gave a batch of numbers which is not the answer, in order of their end."""
    single = {name: own[0] for name, own in calls.items() if len(own) == 1 and _batch(own[0].out)}
    ordered = sorted(single.items(), key=lambda pair: pair[1].ended)
    return [name for name, call in ordered if not any(call.out is answer for answer in out)]


def _batch(out: Any) -> bool:
    return isinstance(out, Tensor) and out.is_floating_point() and out.dim() >= 2 and len(out) == RECORDED


def _blanks(module: nn.Module, calls: Mapping[str, list[_Call]], call: _Call, cut: str) -> dict[str, tuple[int, ...]]:
    """The outermost modules that run before a cut alone, and what they give."""
    done = {
        path
        for path, own in calls.items()
        if path != cut and all(one.ended < call.ended and isinstance(one.out, Tensor) for one in own)
    }
    inside = {path for path in done if path.startswith(f"{cut}.")}
    return {path: _shape(calls[path][0].out) for path in _outermost(module, done - inside)}


def _shape(out: Tensor) -> tuple[int, ...]:
    return tuple(-1 if axis == 0 and size == RECORDED else size for axis, size in enumerate(out.shape))


def _outermost(module: nn.Module, paths: set[str]) -> tuple[str, ...]:
    """Those that lie in no other of them, in the order of the network."""
    inner = {path for path in paths for end in range(len(path)) if path[end] == "." and path[:end] in paths}
    return tuple(name for name, _ in module.named_modules() if name in paths - inner)


def _weights(module: nn.Module, gone: list[str]) -> dict[int, int]:
    """id -> bytes of the tensors that only the modules `gone` hold; of all tensors when none is named."""
    named = [(name, tensor) for name, tensor in module.state_dict(keep_vars=True).items()]
    if not gone:
        return {id(tensor): tensor.nbytes for _, tensor in distinct(named)}
    inside = tuple(f"{path}." for path in gone)
    kept = {id(tensor) for name, tensor in named if not name.startswith(inside)}
    return {id(tensor): tensor.nbytes for _, tensor in distinct(named) if id(tensor) not in kept}


@dataclass(frozen=True)
class _Proof:
    """Another batch, what its representations are, and what is said in the end."""

    module: nn.Module
    x: Tensor
    found: Mapping[str, Tensor]
    said: list[Tensor]

    @classmethod
    def of(cls, module: nn.Module, names: list[str], x: Tensor) -> _Proof:
        own = replaced(module, {}, names)
        with torch.no_grad():
            out, found = Tap(own, names).run(own, x, names, whole=True)
        return cls(module, x, found, _tensors(out))

    def holds(self, name: str, blanks: Mapping[str, tuple[int, ...]], later: tuple[str, ...]) -> bool:
        """Whether the beginning gives the representation without what runs later, and the rest says from it alone what
        the network says, and leaves it as it is.
        """
        found = self.found[name].clone()
        try:
            with torch.no_grad():
                if not torch.equal(Front(self.module, name, later)(self.x), found):
                    return False
                again = _tensors(Back(self.module, name, blanks)(found, torch.zeros_like(self.x)))
        except (RuntimeError, AttributeError, TypeError, ValueError, IndexError, KeyError, StopIteration):
            return False  # the rest asks for something that is no longer there
        return (
            found._version == 0
            and len(again) == len(self.said)
            and all(torch.equal(one, other) for one, other in zip(again, self.said, strict=True))
        )


def _tensors(out: Any) -> list[Tensor]:
    """The first tensor of what a network says."""
    return [out] if isinstance(out, Tensor) else [one for one in out if isinstance(one, Tensor)][:1]
