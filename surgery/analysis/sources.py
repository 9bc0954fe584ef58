"""Where each neuron is seen: at the first layer, in order of execution, that reads it.

An id that nobody reads itself (half of a residual add) is seen where its group is first read; logits are seen nowhere.
All neurons seen in a pass lie side by side in one table, a column each, so that statistics need no loop over neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgery.network.index import NeuronIndex

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Neurons seen at one layer: neuron i lies at k positions of the layer's input and in table column `start + i`.

    neurons: int64[n]; positions: int64[n, k], k > 1 after a flatten, where a channel covers many input positions.
    """

    layer: str
    neurons: Tensor
    positions: Tensor
    start: int

    @property
    def stop(self) -> int:
        """The column after the last one."""
        return self.start + len(self.neurons)

    def covers(self, size: int) -> bool:
        """Whether these neurons are all `size` input positions of their layer, one each and in order."""
        return self._in_order and self.positions.shape == (size, 1)

    def select(self, values: Tensor) -> Tensor:
        """float[b, n, k, …] of float[b, in, …]: the values of these neurons, without a copy where they lie in order."""
        if self._in_order:
            chosen = values.narrow(1, int(self.positions[0, 0]), self.positions.numel())
        else:
            chosen = values.index_select(1, self.positions.flatten().to(values.device))
        return chosen.reshape(len(values), *self.positions.shape, *values.shape[2:])

    @cached_property
    def _in_order(self) -> bool:
        flat = self.positions.flatten()
        return torch.equal(flat, torch.arange(len(flat)) + flat[0])


def sources(index: NeuronIndex) -> list[Source]:
    """Every neuron that some layer reads, once, at the first layer that reads it."""
    unseen = np.ones(index.n, dtype=bool)
    found: list[Source] = []
    start = 0
    for layer in index.layers.values():
        for neurons, positions in _read_first(layer.cols.numpy(), unseen):
            found.append(Source(layer.name, torch.from_numpy(neurons), torch.from_numpy(positions), start))
            start += len(neurons)
            unseen[neurons] = False
    return found


def columns(index: NeuronIndex, found: Sequence[Source]) -> Tensor:
    """int64[N]: the table column in which each neuron is seen, −1 where it is seen nowhere."""
    column = torch.full((index.n,), -1, dtype=torch.long)
    for source in found:
        column[source.neurons] = torch.arange(source.start, source.stop)
    read = column >= 0
    nowhere = index.n
    first = torch.full((index.n,), nowhere, dtype=torch.long)
    first.scatter_reduce_(0, index.group[read], column[read], "amin")
    own = torch.where(read, column, first[index.group])
    return torch.where(own == nowhere, -1, own)


def _read_first(cols: Ints, unseen: NDArray[np.bool_]) -> list[tuple[Ints, Ints]]:
    """(neurons, positions) that a layer reads and nobody read before, one pair per number of positions."""
    places = np.flatnonzero((cols >= 0) & unseen[cols])
    places = places[np.argsort(cols[places], kind="stable")]
    neurons, counts = np.unique(cols[places], return_counts=True)
    found = []
    for count in np.unique(counts).tolist():
        chosen = counts == count
        found.append((neurons[chosen], places[chosen.repeat(counts)].reshape(-1, count)))
    return found
