"""Many neurons on many classes in bounded memory: each neuron keeps the classes on which its mean is largest.

A table of N neurons × C classes above `CELLS` cells would take gigabytes. Samples then come class by class, so that a
class is finished before the next but one begins and only the sums of one class are open; each neuron keeps its `KEPT`
strongest classes. What is said of all other classes together comes from sums over all samples.

Letters: N neurons, M neurons seen, C classes, K classes kept, b samples of a batch, p classes of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgery.analysis.moments import membership

if TYPE_CHECKING:
    from surgery.analysis.scan import Scan

CELLS = 50_000_000  # of N × C, as float32: 200 MB for each of four tables
KEPT = 32
SIZE = 64  # directions that stand for all classes where rows are compared


def applies(neurons: int, classes: int) -> bool:
    """Whether the rule takes hold for so many neurons and classes."""
    return classes > KEPT and neurons * classes > CELLS


@dataclass(frozen=True)
class Overall:
    """Of each neuron, float64[N], over all samples: mean, (population) variance and fraction active.

    balanced: the mean of the means of all classes that have samples, in which each class counts the same.
    """

    mean: Tensor
    var: Tensor
    active: Tensor
    balanced: Tensor

    @classmethod
    def of(cls, count: Tensor, mean: Tensor, var: Tensor, active: Tensor) -> Overall:
        """From complete tables, float[N, C], and the samples of each class, float[C]."""
        share, own = count.double() / count.sum().clamp(min=1), mean.double()
        average = own @ share
        spread = (var.double() @ share) + (own - average[:, None]).square() @ share
        seen = count > 0
        return cls(average, spread, active.double() @ share, own[:, seen].mean(1) if seen.any() else average)

    def stacked(self) -> Tensor:
        """float64[4, N]."""
        return torch.stack([self.mean, self.var, self.active, self.balanced])


@dataclass(frozen=True)
class Kept:
    """classes: int64[N, K], which class each column of a scan's tables is of, best first; −1: the place is empty."""

    classes: Tensor
    overall: Overall


class StrongestClasses:
    """Statistics of M neurons from `float[b, M]` batches whose samples come class by class.

    count: float64[C]. After the last batch, `classes`: int64[M, K] and `mean`, `var`, `absolute`, `active`:
    float32[M, K], best class first (of equal means the one seen earlier); empty places are −1 and 0.
    """

    def __init__(self, classes: int, neurons: int) -> None:
        self.neurons = neurons
        self.count = torch.zeros(classes, dtype=torch.float64)
        self._shift: Tensor | None = None
        self._open = -1  # the class whose sums are carried on
        self._carried, self._total = torch.zeros(2, 4, neurons, dtype=torch.float64)
        self._balanced = torch.zeros(neurons, dtype=torch.float64)
        self._classes = torch.full((KEPT, neurons), -1)
        self._tables = torch.zeros(4, KEPT, neurons)
        self._tables[0] = -torch.inf

    def add(self, values: Tensor, active: Tensor, labels: Tensor) -> None:
        """Take one batch: float32[b, M] twice, as `Moments.add`; labels: int64[b], where no class returns."""
        if self._shift is None:
            self._shift = values.mean(0, dtype=torch.float64)
        present, place = labels.unique_consecutive(return_inverse=True)
        member = membership(len(present), place)
        off = values - self._shift
        sums = torch.stack([member @ part.double() for part in (off, off.square(), values.abs(), active)])  # [4, p, M]
        self.count.index_add_(0, present, member.sum(1))
        self._total += sums.sum(1)
        if int(present[0]) == self._open:
            sums[:, 0] += self._carried
        else:
            self._close()
        self._finish(present[:-1], sums[:, :-1])
        self._open, self._carried = int(present[-1]), sums[:, -1]

    @property
    def overall(self) -> Tensor:
        """float64[M]: mean activation over all samples."""
        mean: Tensor = self._start + self._total[0] / self._samples
        return mean

    @property
    def finite(self) -> Tensor:
        """bool[M]: no sample gave NaN or infinity."""
        return torch.isfinite(self._total).all(0)

    def result(self) -> tuple[Tensor, Overall, tuple[Tensor, ...]]:
        """Classes, sums over all samples, and the four tables in the order of a scan."""
        self._close()
        empty = self._classes < 0
        tables = tuple(torch.where(empty, 0.0, table).T.contiguous() for table in self._tables)
        off, square, _, active = self._total / self._samples
        balanced = self._balanced / (self.count > 0).sum().clamp(min=1)
        overall = Overall(self._start + off, (square - off**2).clamp(min=0), active, balanced)
        return self._classes.T.contiguous(), overall, tables

    @property
    def _start(self) -> Tensor:
        return torch.zeros(self.neurons, dtype=torch.float64) if self._shift is None else self._shift

    @property
    def _samples(self) -> Tensor:
        return self.count.sum().clamp(min=1)

    def _close(self) -> None:
        """Finish the class whose sums are open."""
        if self._open >= 0:
            self._finish(torch.tensor([self._open]), self._carried[:, None])
            self._open = -1

    def _finish(self, classes: Tensor, sums: Tensor) -> None:
        """Keep complete classes, int64[p], where they are among the strongest; sums: float64[4, p, M]."""
        if not len(classes):
            return
        off, square, absolute, active = sums / self.count[classes, None]
        mean = self._start + off
        self._balanced += mean.sum(0)
        fresh = torch.stack([mean, (square - off**2).clamp(min=0), absolute, active]).float()
        tables = torch.cat([self._tables, fresh], 1)
        owners = torch.cat([self._classes, classes[:, None].expand(-1, self.neurons)])
        best = tables[0].argsort(stable=True, dim=0, descending=True)[:KEPT]
        self._classes = owners.gather(0, best)
        self._tables = tables.gather(1, best.expand(4, -1, -1))


def offsets(found: Scan) -> Any:
    """scipy CSR, float64[N, C]: how far the mean of each kept class lies from the neuron's balanced mean.

    The classes that were not kept count as average.
    """
    from scipy.sparse import csr_matrix

    assert found.kept is not None, "a complete table has no offsets"
    classes = found.kept.classes.numpy()
    rows, places = np.nonzero(classes >= 0)
    above = (found.mean.double() - found.kept.overall.balanced[:, None]).numpy()
    shape = (len(classes), len(found.classes))
    return csr_matrix((above[rows, places], (rows, classes[rows, places])), shape)


def reduced(rows: Any) -> NDArray[np.float64]:
    """float64[n, ≤ 64] of sparse rows: their places along the directions of largest spread, distances nearly kept."""
    from sklearn.decomposition import TruncatedSVD

    size = min(SIZE, *rows.shape)
    if not rows.count_nonzero() or size < 2:
        return np.zeros((rows.shape[0], 1))
    with np.errstate(invalid="ignore"):  # it divides by the spread of the rows, which may be 0
        return np.asarray(TruncatedSVD(size, random_state=0).fit_transform(rows))
