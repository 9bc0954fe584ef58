"""Stored samples to what a model takes: read a batch, move it, resize, match the channels, normalise.

Bytes travel to the device as uint8 and become floats there. Normalisation is literally (value − mean) / std on the
0–1 scale, so that a model sees bit for bit what it saw in training. Windows of text that are longer than a model's
context lose their beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from surgery.data.fits import check
from surgery.data.rows import Ids

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset, Spec

KEPT = (16, 250, 2**22)  # samples of a batch: at least, at most, and numbers of input in all
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in every image library
Batch = tuple[Tensor, Tensor | None, Tensor]


class Batches:
    """A sized iterable of (x, y, ids). Going through it twice gives the same batches in the same order."""

    def __init__(self, data: Dataset, ids: Ids, spec: Spec, size: int, device: str, seed: int | None) -> None:
        check(data, spec, size)
        self.data = data
        self.spec = spec
        self.size = size
        self.device = device
        self.ids = ids if seed is None else ids[np.random.default_rng(seed).permutation(len(ids))]

    def __len__(self) -> int:
        return -(-len(self.ids) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        mean = torch.tensor(self.spec.mean, dtype=torch.float32, device=self.device)
        std = torch.tensor(self.spec.std, dtype=torch.float32, device=self.device)
        for start in range(0, len(self.ids), self.size):
            ids = self.ids[start : start + self.size]
            if self.spec.kind == "text":
                yield self._text(ids), self._targets(ids), torch.from_numpy(ids.copy())
                continue
            raw = torch.from_numpy(self.data.raw(ids)).to(self.device)
            if self.spec.kind == "image":
                x = _images(raw, self.spec.shape).sub_(mean[:, None, None]).div_(std[:, None, None])
            else:
                x = raw.sub(mean).div_(std)
            yield x, self._targets(ids), torch.from_numpy(ids.copy())

    def _text(self, ids: Ids) -> Tensor:
        """int64[b, context]: the last characters of each window, numbered as the model knows them."""
        known = {name: number for number, name in enumerate(self.spec.alphabet)}
        place = np.array([known[name] for name in self.data.classes], dtype=np.int64)
        return torch.from_numpy(place[self.data.raw(ids)[:, -self.spec.shape[0] :]]).to(self.device)

    def _targets(self, ids: Ids) -> Tensor | None:
        if self.data.task == "unlabelled":
            return None
        return torch.from_numpy(self.data.labels(ids)).to(self.device)


@dataclass(frozen=True)
class Inputs:
    """Samples without their labels, to be gone through again and again: what a warm model is asked about."""

    batches: Batches

    @classmethod
    def of(cls, data: Dataset, ids: Ids, spec: Spec, device: str) -> Inputs:
        """In batches of a size that a pass which keeps some activations can bear."""
        least, most, numbers = KEPT
        return cls(data.batches(ids, spec, size=max(least, min(most, numbers // math.prod(spec.shape))), device=device))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return (x for x, _, _ in self.batches)


def _images(raw: Tensor, shape: tuple[int, ...]) -> Tensor:
    """float32[b, *shape] on the 0–1 scale from uint8[b, h, w, c]."""
    channels, height, width = shape
    x = raw.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)  # b c h w
    if x.shape[1] > channels:
        x = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    if x.shape[2:] != (height, width):
        smaller = height < x.shape[2] or width < x.shape[3]
        x = functional.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=smaller)
    return x.repeat(1, channels, 1, 1) if x.shape[1] < channels else x
