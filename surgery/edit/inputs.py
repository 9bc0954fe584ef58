"""What the readers of a network receive, and how much each of their outputs matters: one pass, second moments.

From these alone follow the least-squares take-over of removed neurons (`compensate`) and what a removal is expected to
cost (`effect`). Letters: in / out = input positions and outputs of one reader, k = positions of its kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.context import Context
from surgery.edit.evaluate import MEANS_FROM, training_ids
from surgery.network.model import Model
from surgery.network.readers import Readers

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

WIDEST = 4_096  # input positions of a reader whose covariance is kept (64 MB in fp32)
POSITIONS = 256  # of a map, per batch: their moments settle with far fewer than all
BATCH = 64


@dataclass(frozen=True)
class Inputs:
    """Moments over samples and positions, per layer.

    mean, variance: float64[in]. covariance: float64[in, in], only of layers with at most WIDEST inputs. weight:
    float64[out], the mean over samples of Σ (∂L/∂z)² over positions, z the layer's output and L the loss for an answer
    drawn from the model's own distribution (the diagonal of Fisher's information). positions: of the output, over all
    uses of the layer (of the input for a transposed convolution).
    taps: float64[in, k], what each place of the kernel reads on average over output positions, padding included; and
    read: float64[k], how often it reads no padding. Both only of linear layers and convolutions (k = 1 for linear).
    """

    mean: Mapping[str, Tensor]
    variance: Mapping[str, Tensor]
    covariance: Mapping[str, Tensor]
    weight: Mapping[str, Tensor]
    positions: Mapping[str, int]
    taps: Mapping[str, Tensor]
    read: Mapping[str, Tensor]


def inputs_of(model: Model, data: Dataset, ctx: Context, limit: int = MEANS_FROM) -> Inputs:
    """Observe at most `limit` training samples in a seeded order. Deterministic for a seed and a dataset."""
    order = np.random.default_rng(ctx.seed).permutation(training_ids(data))
    ids = np.sort(order[:limit])
    module = model.module.to(ctx.device)
    seen = _Moments(model, torch.Generator(ctx.device).manual_seed(ctx.seed))
    try:
        for x, _, _ in ctx.track(data.batches(ids, model.input, size=BATCH, device=ctx.device), "observing"):
            seen.add(x)
    finally:
        module.to("cpu")
    return seen.moments(len(ids))


class _Moments:
    """Sums over batches."""

    def __init__(self, model: Model, generator: torch.Generator) -> None:
        self.model, self.generator = model, generator
        self.sums: dict[str, Tensor] = {}
        self.powers: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.fisher: dict[str, Tensor] = {}
        self.positions: dict[str, int] = {}
        self.maps: dict[str, Tensor] = {}

    def add(self, x: Tensor) -> None:
        """One batch: forward, and backward to the readers' outputs."""
        outs: list[tuple[str, Tensor, int]] = []
        kernels = dict(self.model.module.named_modules())
        upward = {name for name, part in kernels.items() if isinstance(part, nn.modules.conv._ConvTransposeNd)}

        def before(layer: str, x: Tensor, axis: int) -> Tensor:
            self._count(layer, x.detach().movedim(axis, -1).flatten(0, -2))
            if isinstance(kernels.get(layer), nn.modules.conv._ConvNd):
                self.maps[layer] = self.maps.get(layer, 0) + x.detach().double().sum(0).cpu()
            return x

        def after(layer: str, out: Tensor, axis: int) -> Tensor:
            outs.append((layer, out, axis))
            return out

        with torch.enable_grad(), Readers(self.model.module, before, after):
            loss = self._drawn(self.model(x))
        self.positions = {}
        gradients = torch.autograd.grad(loss, [out for _, out, _ in outs], allow_unused=True)
        for (layer, out, axis), gradient in zip(outs, gradients, strict=True):
            if gradient is not None:
                power = gradient.movedim(axis, -1).flatten(0, -2).double().square().sum(0)
                self.fisher[layer] = self.fisher.get(layer, 0) + power
                places = out.numel() // out.shape[axis] // len(x)
                stride = getattr(kernels.get(layer), "stride", (1,)) if layer in upward else (1,)
                self.positions[layer] = self.positions.get(layer, 0) + places // math.prod(stride)

    def _count(self, layer: str, rows: Tensor) -> None:
        """rows: float[b · positions, in]."""
        most = POSITIONS * BATCH
        if len(rows) > most:
            rows = rows[torch.randperm(len(rows), generator=self.generator, device=rows.device)[:most]]
        self.sums[layer] = self.sums.get(layer, 0) + rows.double().sum(0)
        self.powers[layer] = self.powers.get(layer, 0) + rows.double().square().sum(0)
        self.counts[layer] = self.counts.get(layer, 0) + len(rows)
        if rows.shape[1] <= WIDEST:
            self.squares[layer] = self.squares.get(layer, 0) + (rows.T @ rows).double()

    def _drawn(self, out: Tensor) -> Tensor:
        """The summed loss of answers drawn from the model's own distribution; out: float[b, outputs]."""
        if self.model.task == "regression":
            noise = torch.randn(len(out), generator=self.generator, device=out.device)
            return (out[:, 0] * noise).sum()
        answers = torch.multinomial(out.detach().softmax(1), 1, generator=self.generator)[:, 0]
        return F.cross_entropy(out, answers, reduction="sum")

    def moments(self, samples: int) -> Inputs:
        """Means of what was summed."""
        mean = {layer: (total / self.counts[layer]).cpu() for layer, total in self.sums.items()}
        power = {layer: (total / self.counts[layer]).cpu() for layer, total in self.powers.items()}
        square = {layer: (total / self.counts[layer]).cpu() for layer, total in self.squares.items()}
        return Inputs(
            mean,
            {layer: (total - mean[layer].square()).clamp(min=0) for layer, total in power.items()},
            {layer: total - torch.outer(mean[layer], mean[layer]) for layer, total in square.items()},
            {layer: (total / samples).cpu() for layer, total in self.fisher.items()},
            self.positions,
            taps={layer: self._taps(layer, mean[layer], samples) for layer in mean},
            read={layer: self._taps(layer, None, samples)[0] for layer in mean},
        )

    def _taps(self, layer: str, mean: Tensor | None, samples: int) -> Tensor:
        """float64[in, k] of a layer's mean map; float64[1, k] of a map of ones without a mean."""
        if layer not in self.maps:
            return torch.ones(1, 1, dtype=torch.float64) if mean is None else mean[:, None]
        owner: Any = self.model.module.get_submodule(layer)
        whole = self.maps[layer] / samples if mean is not None else torch.ones_like(self.maps[layer][:1])
        kernel = owner.weight.shape[2:]
        places = torch.eye(kernel.numel(), dtype=torch.float64).reshape(-1, 1, *kernel)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
        seen = convolve(whole[:, None], places, None, owner.stride, owner.padding, owner.dilation)
        return seen.flatten(2).mean(2)


def blocks(module: Any, columns: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """The input and output positions of each group of a convolution; everything at once for other layers."""
    groups = int(getattr(module, "groups", 1))
    for g in range(groups):
        yield (
            slice(g * columns // groups, (g + 1) * columns // groups),
            slice(g * rows // groups, (g + 1) * rows // groups),
        )
