"""Sums per class and neuron, streamed: count, mean, variance, mean |a| and fraction active of any number of batches.

Sums are taken in float64 about a shift (each neuron's mean over the first batch), so that the variance of a neuron
with a large mean does not drown in rounding.

Letters: M neurons seen, C classes, b samples of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Accumulates `float[b, M]` tables; the properties are float64[C, M], 0 for a class without samples."""

    def __init__(self, classes: int, neurons: int) -> None:
        self.neurons = neurons
        self.count = torch.zeros(classes, dtype=torch.float64)
        self._shift: Tensor | None = None
        self._sums = torch.zeros(4, classes, neurons, dtype=torch.float64)
        self._sum, self._square, self._absolute, self._active = self._sums

    def add(self, values: Tensor, active: Tensor, labels: Tensor) -> None:
        """Take one batch.

        values, active: float32[b, M], the activation and the share of its positions above 0; labels: int64[b].
        """
        if self._shift is None:
            self._shift = values.mean(0, dtype=torch.float64)
        off = values - self._shift
        if len(self.count) > len(labels):  # most classes are not there: touch only those that are
            present, labels = labels.unique(return_inverse=True)
            member = membership(len(present), labels)
            self.count.index_add_(0, present, member.sum(1))
            for total, part in zip(self._sums, (off, off.square(), values.abs(), active), strict=True):
                total.index_add_(0, present, member @ part.double())
            return
        member = membership(len(self.count), labels)
        self.count += member.sum(1)
        self._sum.addmm_(member, off)
        self._square.addmm_(member, off.square_())
        single = member.float()
        self._absolute += single @ values.abs()
        self._active += single @ active

    @property
    def mean(self) -> Tensor:
        """float64[C, M]: mean activation."""
        shift = torch.zeros(()) if self._shift is None else self._shift
        return torch.where(self._seen, shift + self._sum / self._each, 0.0)

    @property
    def overall(self) -> Tensor:
        """float64[M]: mean activation over all samples."""
        return (self.mean * self.count.unsqueeze(1)).sum(0) / self.count.sum().clamp(min=1)

    @property
    def finite(self) -> Tensor:
        """bool[M]: no sample gave NaN or infinity."""
        return torch.isfinite(self.overall) & torch.isfinite(self.var).all(0)

    @property
    def var(self) -> Tensor:
        """float64[C, M]: variance over samples (population)."""
        spread: Tensor = self._square / self._each - (self._sum / self._each) ** 2
        return spread.clamp(min=0)

    @property
    def absolute(self) -> Tensor:
        """float64[C, M]: mean |activation|."""
        return torch.div(self._absolute, self._each)

    @property
    def active(self) -> Tensor:
        """float64[C, M]: fraction of positions above 0."""
        return torch.div(self._active, self._each)

    @property
    def _each(self) -> Tensor:
        return self.count.clamp(min=1).unsqueeze(1)

    @property
    def _seen(self) -> Tensor:
        return (self.count > 0).unsqueeze(1)


def membership(classes: int, labels: Tensor) -> Tensor:
    """float64[classes, b]: 1 where a sample is of a class."""
    member = torch.zeros(classes, len(labels), dtype=torch.float64)
    member[labels, torch.arange(len(labels))] = 1.0
    return member
