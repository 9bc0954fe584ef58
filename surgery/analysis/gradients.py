"""One forward and two backwards per batch: how much each neuron moves the answer, by gradient and by difference.

Weights are frozen, so that a backward pass computes gradients of activations only. A neuron's contribution is taken
where it is read, summed over its readers and positions: exactly the derivative of the answer with respect to the
neuron's gate (`surgery.edit.gate`), which is what removing a whole coupled group comes down to.

Letters: b samples, G groups of neurons, s positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from surgery.analysis.rescale import Rescaling
from surgery.analysis.watch import Layout
from surgery.network.index import NeuronIndex
from surgery.network.readers import Readers
from surgery.network.slicing import Means


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside it, no parameter asks for a gradient."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def rewritten(module: nn.Module, x: Tensor) -> set[str]:
    """The layers whose input the network goes on to change in place: it must be copied to be remembered."""
    with torch.no_grad():
        versions: dict[str, list[tuple[Tensor, int]]] = {}

        def before(name: str, value: Tensor, axis: int) -> Tensor:
            versions.setdefault(name, []).append((value, value._version))
            return value

        with Readers(module, before):
            module(x)
    return {name for name, seen in versions.items() if any(value._version != old for value, old in seen)}


class Gradients(Readers):
    """Inside it, a forward pass is tapped at every reader; `collect` then runs a backward and sums what flows by.

    columns: layer -> int64[in], the group table's column of each input position, G for none.
    means: what a neuron leaves behind; contributions are then of a − mean instead of a.
    """

    def __init__(
        self,
        module: nn.Module,
        layouts: dict[str, Layout],
        columns: dict[str, Tensor],
        *,
        groups: int,
        changed: set[str],
        means: Means | None = None,
    ) -> None:
        super().__init__(module, self._tap, self._start)
        self._layouts, self._columns, self._groups, self._changed = layouts, columns, groups, changed
        self._means = means or {}
        self._samples = 0
        self._lifting = False
        self._table = torch.zeros(0)

    def expect(self, samples: int) -> None:
        """How many samples the next forward pass has, a baseline included."""
        self._samples = samples

    def collect(self, answer: Tensor, *, rescaling: Rescaling | None = None, keep_graph: bool = False) -> Tensor:
        """float[b, G]: each group's contribution to a scalar sum over samples, by gradient, or by the rescale rule."""
        self._table = answer.new_zeros(self._samples, self._groups + 1)
        self._lifting = rescaling is not None
        if rescaling is not None:
            rescaling.lifting = True
        answer.backward(retain_graph=keep_graph)
        if rescaling is not None:
            rescaling.lifting = False
        return self._table[:, :-1]

    def _start(self, name: str, out: Tensor, axis: int) -> Tensor:
        """Let the graph begin at the first layer's output; a clone, since a network may change it in place."""
        if torch.is_grad_enabled() and not out.requires_grad:
            return out.requires_grad_().clone()
        return out

    def _tap(self, name: str, x: Tensor, axis: int) -> Tensor:
        if not x.requires_grad or name not in self._columns or self._layouts[name].order == "shared":
            return x
        alias = x.view_as(x)  # its gradient is what flows through this reader, not through others
        remembered = x.detach().clone() if name in self._changed else x.detach()
        alias.register_hook(partial(self._take, name, remembered, axis))
        return alias

    def _take(self, name: str, x: Tensor, axis: int, g: Tensor) -> None:
        layout = self._layouts[name]
        a, slope = (layout.maps(tensor, axis, self._samples) for tensor in (x, g))  # [b, in, s]
        found = torch.einsum("bis,bis->bi", a, slope)
        if self._lifting:
            found -= torch.einsum("is,bis->bi", a[-1], slope)
        elif name in self._means:
            found -= self._means[name].to(found) * slope.sum(2)
        self._table.index_add_(1, self._columns[name].to(found.device), found)


def columns(index: NeuronIndex, point: Tensor) -> dict[str, Tensor]:
    """layer -> int64[in]: the place among `point: bool[N]` of the group that each input position belongs to."""
    number = torch.full((index.n,), int(point.sum()), dtype=torch.long)
    number[point] = torch.arange(int(point.sum()))
    own = number[index.group]
    none = torch.tensor(int(point.sum()))
    return {
        name: torch.where(layer.cols >= 0, own[layer.cols.clamp(min=0)], none)
        for name, layer in index.layers.items()
        if bool((layer.cols >= 0).any())
    }
