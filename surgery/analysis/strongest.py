"""The strongest samples of each neuron, streamed: a batch is asked only for what beats a neuron's current ninth.

Value and sample are packed into one int64 key that sorts by value and, among equals, by lower sample id. So the
result does not depend on the batch size, and no sort has to be stable. Only maps stay on the device; the rest are
many small steps, which numpy takes faster.

Letters: M neurons seen, n of one source, b samples of a batch, s positions of a map, k offers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TOP = 9
_WORTH = 8  # offers per neuron that are worth a merge
_EMPTY = np.iinfo(np.int64).min
_IDS = 0xFFFFFFFF  # sample ids fit in 32 bits

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def keys(values: Floats, samples: Ints) -> Ints:
    """One key per value and sample id; a larger key is a larger value or, among equals, a lower id."""
    bits = (values + np.float32(0)).view(np.int32)  # + 0: −0 becomes 0
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    return np.asarray((ordered << 32) | (_IDS - samples), dtype=np.int64)


def unpack(packed: Ints) -> tuple[Floats, Ints]:
    """Values and sample ids of `keys`; an empty place is (−inf, −1)."""
    ordered = (packed >> 32).astype(np.int32)
    values = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32)
    empty = packed == _EMPTY
    return np.where(empty, np.float32(-np.inf), values), np.where(empty, -1, _IDS - (packed & _IDS))


class Strongest:
    """The `TOP` strongest samples of M neurons, with the position of the maximum in each sample's map.

    Samples must be offered in ascending order of id: then a value equal to the ninth never has to displace it.
    """

    def __init__(self, neurons: int) -> None:
        self._keys = np.full((neurons, TOP), _EMPTY)
        self._positions = np.full((neurons, TOP), -1)
        self._bar = np.full(neurons, -np.inf, dtype=np.float32)
        self._offers: list[tuple[Ints, Floats, Ints, Ints]] = []  # neuron, value, sample id, position

    def offer(self, start: int, values: Tensor, maps: Tensor, samples: Ints) -> None:
        """Note where neurons `start … start + n` are strong in one batch, while their maps are still there.

        values: float[b, n], the activation; maps: float[b, n, s], before averaging; samples: their ids [b].
        """
        own = values.cpu().numpy()
        neurons = own.shape[1]
        beats = np.flatnonzero(own > self._bar[start : start + neurons])
        if not len(beats):
            return
        sample, neuron = np.divmod(beats, neurons)
        if len(sample) > TOP * neurons:
            packed = keys(np.ascontiguousarray(own.T), samples)
            best = np.argpartition(packed, -min(TOP, len(samples)), axis=1)[:, -TOP:]
            sample, neuron = best.ravel(), np.arange(neurons).repeat(best.shape[1])
        places = _summits(maps, sample, neuron)
        self._offers.append((neuron + start, own[sample, neuron], samples[sample], places))

    def settle(self) -> None:
        """End a batch: merge what was offered, once that is worth a merge."""
        if sum(len(offer[0]) for offer in self._offers) > _WORTH * len(self._keys):
            self._merge()

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """float32[M, 9] values (0 where empty), int64[M, 9] sample ids and positions (−1 where empty), best first."""
        self._merge()
        values, samples = unpack(self._keys)
        values[samples < 0] = 0
        return torch.from_numpy(values), torch.from_numpy(samples), torch.from_numpy(self._positions)

    def _merge(self) -> None:
        if not self._offers:
            return
        neuron, value, sample, position = (np.concatenate(parts) for parts in zip(*self._offers, strict=True))
        self._offers.clear()
        order = np.argsort(neuron, kind="stable")
        ordered = neuron[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        rows, counts = ordered[first], np.diff(first, append=len(ordered))
        row = np.arange(len(rows)).repeat(counts)
        place = TOP + np.arange(len(order)) - first.repeat(counts)
        both = np.full((2, len(rows), TOP + int(counts.max())), _EMPTY)  # what a neuron had, then what it was offered
        both[0, :, :TOP], both[1, :, :TOP] = self._keys[rows], self._positions[rows]
        both[0, row, place], both[1, row, place] = keys(value, sample)[order], position[order]
        best = np.argsort(both[0], axis=1)[:, : -TOP - 1 : -1]
        self._keys[rows] = np.take_along_axis(both[0], best, 1)
        self._positions[rows] = np.take_along_axis(both[1], best, 1)
        self._bar[rows] = unpack(self._keys[rows, -1])[0]


def _summits(maps: Tensor, sample: Ints, neuron: Ints) -> Ints:
    """Where the chosen maps are largest, −1 for maps of one position: int64[k]."""
    if maps.shape[2] == 1:
        return np.full(len(sample), -1)
    if maps.device.type == "cpu":
        return np.asarray(maps.numpy()[sample, neuron].argmax(1), dtype=np.int64)
    chosen = maps[torch.from_numpy(sample).to(maps.device), torch.from_numpy(neuron).to(maps.device)]
    return np.asarray(chosen.argmax(1).cpu().numpy(), dtype=np.int64)
