"""Tiny networks that between them have every kind of coupling the product promises to handle."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace


class Residual(nn.Module):
    """A stem, one residual block and a linear head."""

    def __init__(self, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.one = nn.Conv2d(6, 5, 3, padding=1)
        self.two = nn.Conv2d(5, 6, 3, padding=1)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.two(F.relu(self.one(x))))
        return self.head(x.mean((2, 3)))


class Depthwise(nn.Module):
    """Expand, depthwise, project; then a convolution in groups of two."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(1, 8, 1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.project = nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 4, 3, groups=4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depth(F.relu6(self.expand(x))))
        return self.head(self.grouped(self.project(x)).amax((2, 3)))


class Concat(nn.Module):
    """Two branches and the input side by side, flattened into a sigmoid layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 4, 3, padding=1)
        self.right = nn.Conv2d(1, 3, 5, padding=2)
        self.mid = nn.Linear(8 * 16, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), x, self.right(x)], 1)
        x = F.max_pool2d(x, 2)
        return self.head(torch.sigmoid(self.mid(torch.flatten(x, 1))))


class Functional(nn.Module):
    """A bare weight, a bare scale, a transposed convolution and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.scale = nn.Parameter(torch.randn(6, 1, 1))
        self.up = nn.ConvTranspose2d(6, 5, 2, 2)
        self.weight = nn.Parameter(torch.randn(4, 11))
        self.head = nn.Linear(4, 3)
        self.again = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.conv(x)) * self.scale
        x = torch.cat([x.mean((2, 3)), self.up(x).amax((2, 3))], 1)
        x = self.head(torch.tanh(F.linear(x, self.weight)))
        return self.again(torch.relu(self.again(x)))


class Literal(nn.Module):
    """Its forward counts six neurons in words of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.free = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)).mean((2, 3)).view(x.shape[0], 6)
        return self.head(F.relu(self.free(x)))


class Shuffled(nn.Module):
    """Channels shuffled in two groups, and a gated linear unit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3)
        self.mix = nn.Conv2d(12, 8, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(F.glu(self.mix(x), 1).mean((2, 3)))


NETWORKS = (Residual, Depthwise, Concat, Functional, Literal, Shuffled)


def mlp(sizes: tuple[int, ...] = (4, 8, 6, 3)) -> nn.Sequential:
    """Linear layers with sigmoids between: an activation whose zero is not zero."""
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        parts += [nn.Linear(a, b), nn.Sigmoid()]
    return nn.Sequential(*parts[:-1])


def pico_model(module: nn.Module | None = None, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> Model:
    """A traced model with random weights and lively BatchNorm statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = module or Residual()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.5)
    module.eval()
    index, support = trace(module, torch.zeros(1, *shape))
    kind = "image" if len(shape) == 3 else "table"
    spec = InputSpec(kind, shape, (0.0,) * shape[0], (1.0,) * shape[0])
    return Model(
        module, Architecture("test/pico"), spec, "classification", ("bars", "columns", "square"), index, support
    )
