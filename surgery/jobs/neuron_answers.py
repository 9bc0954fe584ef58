"""What a probe tells about one neuron: where it is active in pictures, who feeds it, whom it feeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from surgery.analysis.connections import connections
from surgery.analysis.regions import Locator
from surgery.data.dataset import Dataset
from surgery.errors import SelectionError
from surgery.network.model import Model

PICTURES = 24  # at a time


@dataclass(frozen=True)
class NeuronAnswers:
    """The model lies on the CPU: few samples are asked for at a time."""

    model: Model
    data: Dataset

    def regions(self, neuron: int, samples: Sequence[Any]) -> dict[str, Any]:
        """regions: per sample {sample, map: rows of numbers 0–1, box: [left, top, right, bottom] as shares 0–1 of the
        picture, or None}, of a text {sample, map: a number 0–1 per character, box: None}; an empty list when the neuron
        has no place in a picture. Maps share one scale.

        Raises:
            SelectionError: no such neuron. DataError: no such sample, or one of test.
        """
        self._check(neuron)
        ids = np.array(samples[:PICTURES], dtype=np.int64)
        if self.model.input.kind == "table" or not len(ids):
            return {"regions": []}
        order = np.argsort(ids, kind="stable")
        (x, _, _) = next(iter(self.data.batches(ids[order], self.model.input, size=len(ids))))
        if self.model.input.kind == "text":
            return {"regions": self._along(neuron, ids[order], x)}
        found = self._locator.regions(neuron, x)
        top = max((float(one.map.max()) for one in found), default=0.0)
        low = min((float(one.map.min()) for one in found), default=0.0)
        height, width = self.model.input.shape[1:]
        size = (width, height, width, height)
        regions = [
            {
                "sample": int(sample),
                "map": ((one.map - low) / max(top - low, 1e-12)).numpy().round(3).tolist(),
                "box": None if one.box is None else [at / of for at, of in zip(one.box, size, strict=True)],
            }
            for sample, one in zip(ids[order], found, strict=False)
        ]
        return {"regions": regions}

    def _along(self, neuron: int, ids: NDArray[np.int64], x: Tensor) -> list[dict[str, Any]]:
        active = self._locator.along(neuron, x)
        if active is None:
            return []
        shares = (active - active.min()) / (active.max() - active.min()).clamp(min=1e-12)
        return [
            {"sample": int(sample), "map": row.numpy().round(3).tolist(), "box": None}
            for sample, row in zip(ids, shares, strict=True)
        ]

    def connections(self, neuron: int) -> dict[str, Any]:
        """upstream, downstream: {neuron (−1: the input), layer, weight, share} of the strongest, first the strongest.

        Raises:
            SelectionError: no such neuron.
        """
        index = self._check(neuron)
        upstream, downstream = connections(self.model.module, index, neuron)
        return {"upstream": [asdict(one) for one in upstream], "downstream": [asdict(one) for one in downstream]}

    @cached_property
    def _locator(self) -> Locator:
        return Locator(self.model)

    def _check(self, neuron: int) -> Any:
        index = self.model.index
        if index is None or not 0 <= neuron < index.n:
            last = index.n - 1 if index else -1
            raise SelectionError(f"There is no neuron {neuron}: this version has 0 to {last}.", "Choose another.")
        return index
