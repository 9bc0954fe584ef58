"""See what each layer receives while a model runs, sample by sample.

Forward pre-hooks show the inputs of modules; a weight that is used without its module is seen through a function mode,
which is entered only when a network needs it. `layouts` runs the model on two samples and on one, to learn how samples
lie in each layer's input: models fold samples and tokens or windows into one axis in more than one order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surgery.network.index import Layer, NeuronIndex
from surgery.network.readers import Readers

See = Callable[[str, Tensor, int], None]  # layer name, input, channel axis
Order = Literal["first", "last", "shared"]


@dataclass(frozen=True)
class Layout:
    """How one layer is read in a pass.

    order: where samples stand when all axes but the channels are one: "first" [b · s], "last" [s · b], or "shared":
        the input does not depend on the sample (a table of coordinates).
    functional: the weight is used without its module.
    calls: reads per pass. same_as: an earlier layer that receives the very same tensor.
    """

    order: Order = "first"
    functional: bool = False
    calls: int = 1
    same_as: str | None = None

    def maps(self, x: Tensor, axis: int, samples: int) -> Tensor:
        """float[samples, in, s]: a layer's input by sample, channel and position. A view where memory allows."""
        axis %= x.dim()
        if self.order == "first" and axis == 1 and x.shape[0] == samples:
            return x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)
        rows = x.movedim(axis, -1).reshape(-1, x.shape[axis])
        if self.order == "shared":
            return rows.t().expand(samples, -1, -1)
        if self.order == "last":
            return rows.view(-1, samples, rows.shape[1]).permute(1, 2, 0)
        return rows.view(samples, -1, rows.shape[1]).transpose(1, 2)


@contextmanager
def watch(module: nn.Module, index: NeuronIndex, see: See, *, functional: Collection[str] = ()) -> Iterator[None]:
    """Inside it, `see(layer, input, channel axis)` is called for every read; the module is left as it was.

    `functional` layers are seen through a function mode, all others through hooks on their modules.
    """
    with ExitStack() as stack:
        for name, layer in index.layers.items():
            if layer.shiftable and name not in functional:
                hook = _hook(layer, see)
                handle = module.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
        if functional:
            stack.enter_context(_mode(module, functional, see))
        yield


def layouts(module: nn.Module, index: NeuronIndex, pair: Tensor) -> dict[str, Layout]:
    """How each layer is read, found by running `module` on a pair of samples and on the first of them.

    A layer that is never read, or whose input has no recognisable samples, is left out.
    """
    with torch.no_grad():
        both, alone = _record(module, index, pair), _record(module, index, pair[:1])
    found: dict[str, Layout] = {}
    owners: dict[tuple[int, int, torch.Size], str] = {}
    for name, read in both.items():
        other = alone.get(name)
        order = _order(read, other) if other is not None else None
        if order is None:
            continue
        owner = owners.setdefault(read.key, name)
        same_as = owner if owner != name and len(read.inputs) == 1 else None
        found[name] = Layout(order, read.functional, len(read.inputs), same_as)
    return found


def inputs(module: nn.Module, index: NeuronIndex, x: Tensor) -> dict[str, list[Tensor]]:
    """layer -> everything it receives when `module` runs on x, in order; layers that are never read are missing."""
    return {name: read.inputs for name, read in _record(module, index, x).items()}


@dataclass
class _Reads:
    """What one layer received in a trial run."""

    axis: int
    key: tuple[int, int, torch.Size]  # memory, version and shape of the first input when it was read
    inputs: list[Tensor] = field(default_factory=list)
    functional: bool = False


def _record(module: nn.Module, index: NeuronIndex, x: Tensor) -> dict[str, _Reads]:
    """All inputs of all layers, in order of execution; kept alive together, so that addresses tell them apart."""
    hooked = _run(module, index, x, ())
    missed = [name for name in index.layers if name not in hooked]
    if not missed:
        return hooked
    for name, reads in (seen := _run(module, index, x, missed)).items():
        reads.functional = name in missed
    return seen


def _run(module: nn.Module, index: NeuronIndex, x: Tensor, functional: Collection[str]) -> dict[str, _Reads]:
    found: dict[str, _Reads] = {}

    def see(name: str, value: Tensor, axis: int) -> None:
        key = (value.data_ptr(), value._version, value.shape)
        found.setdefault(name, _Reads(axis, key)).inputs.append(value)

    with watch(module, index, see, functional=functional):
        module(x)
    return found


def _order(two: _Reads, one: _Reads) -> Order | None:
    """Where the samples stand, from what a layer received for two samples and for the first of them alone."""
    if (two.inputs[0].shape[0], one.inputs[0].shape[0]) == (2, 1) and two.axis > 0:
        return "first"
    pair = two.inputs[0].movedim(two.axis, -1).flatten(0, -2)
    alone = one.inputs[0].movedim(one.axis, -1).flatten(0, -2)
    rows = len(alone)
    if len(pair) == rows:
        return "shared"
    if len(pair) != 2 * rows:
        return None
    first = float((pair[:rows] - alone).abs().max())
    last = float((pair[::2] - alone).abs().max())
    return "first" if first <= last else "last"


def _hook(layer: Layer, see: See) -> Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        x = args[0] if args else kwargs["input"]
        weight: Any = module.weight
        see(layer.name, x, x.dim() + 1 - weight.dim() if layer.kind == "conv" else x.dim() - 1)

    return hook


def _mode(module: nn.Module, names: Collection[str], see: See) -> Readers:
    def before(name: str, x: Tensor, axis: int) -> Tensor:
        if name in names:
            see(name, x, axis)
        return x

    return Readers(module, before)
