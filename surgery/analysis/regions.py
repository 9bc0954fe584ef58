"""Where in a picture a neuron is active: its activation map on a sample, and the part of the picture it depends on.

The map is what the first layer that reads the neuron receives, or what was averaged to that. The receptive field is
found by running, like the numbering: the pixels that the map's largest value has a gradient to. So it needs no rule
per layer type, and where nothing limits it (a linear layer, attention) it is the whole picture.

Letters: b samples, h × w positions of the map, H × W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from surgery.analysis.sources import Source, sources
from surgery.analysis.watch import Layout, layouts, watch
from surgery.errors import ModelError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Region:
    """One sample. map: float[h, w]; box: left, top, right, bottom in pixels of the model's input (the last two
    exclusive), None where the value depends on no pixel.
    """

    map: Tensor
    box: Box | None

    def lies_in_place(self, shape: Sequence[int]) -> bool:
        """Whether the map's largest value depends on pixels around its own place in a picture of H × W pixels.

        It does not where a network has reordered the positions, for instance into windows.
        """
        if self.box is None:
            return True
        place = divmod(int(self.map.argmax()), self.map.shape[1])  # row, column
        cells = [size / count for size, count in zip(shape, self.map.shape, strict=True)]
        row, column = ((at + 0.5) * cell for at, cell in zip(place, cells, strict=True))
        left, top, right, bottom = self.box
        return left - cells[1] <= column <= right + cells[1] and top - cells[0] <= row <= bottom + cells[0]


class _SeenError(Exception):
    """The layer has been read: what follows is of no interest."""


@dataclass
class Locator:
    """Finds the regions of one model's neurons; what is learnt about its layers is kept for the next question."""

    model: Model
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.model.index is None:
            raise ModelError("The neurons of this network are not numbered.", "It can only be inspected.")
        self.index: NeuronIndex = self.model.index
        self.layouts = layouts(self.model.module, self.index, self.model.input.example(2, self.device))
        self.sources = [source for source in sources(self.index) if source.layer in self.layouts]

    def regions(self, neuron: int, x: Tensor) -> list[Region]:
        """A region per sample of x: float[b, channels, H, W]; none for a neuron without positions in the picture."""
        found = self._source(neuron)
        if found is None or x.dim() != 4:
            return []
        source, place = found
        with torch.enable_grad():
            given = x.detach().clone().requires_grad_()
            maps = self._maps(source, given)
            own = source.select(maps)[:, place].flatten(1)  # [b, k · s]
            grid = plane(own.shape[1], (x.shape[2], x.shape[3]))
            if grid is None:
                return []
            own = own[:, -grid[0] * grid[1] :]  # a class token comes first
            (slope,) = torch.autograd.grad(own.max(1).values.sum(), given, allow_unused=True)
        touched = torch.zeros_like(given[:, 0]) if slope is None else slope.abs().amax(1)  # [b, H, W]
        maps = own.detach().reshape(len(own), *grid).cpu()
        located = [Region(map, bounds(depends)) for map, depends in zip(maps, touched, strict=True)]
        return located if all(region.lies_in_place(x.shape[2:]) for region in located) else []

    def along(self, neuron: int, x: Tensor) -> Tensor | None:
        """float[b, t]: a neuron's activation at every character of x: int64[b, t]; None where it has no such place."""
        found = self._source(neuron)
        if found is None:
            return None
        source, place = found
        with torch.no_grad():
            own = source.select(self._maps(source, x))[:, place]  # [b, k, t], k positions that read it
            own = own.mean(1) if own.dim() == 3 else own
        return own.cpu() if own.shape[1] == x.shape[1] else None

    def _source(self, neuron: int) -> tuple[Source, int] | None:
        """Where the neuron, or else the first read member of its group, is seen, and its place there."""
        members = (self.index.group == self.index.group[neuron]).nonzero().flatten().tolist()
        for wanted in ([neuron], members):
            for source in self.sources:
                hit = torch.isin(source.neurons, torch.tensor(wanted)).nonzero().flatten()
                if len(hit):
                    return source, int(hit[0])
        return None

    def _maps(self, source: Source, x: Tensor) -> Tensor:
        """float[b, in, s]: what the source's layer receives first; the pass ends there."""
        layout = self.layouts[source.layer]
        taken: list[Tensor] = []
        see, functional = _once(source.layer, layout, len(x), taken), {source.layer} if layout.functional else set()
        averaged = _Averaged()
        with averaged, watch(self.model.module, self.index, see, functional=functional), suppress(_SeenError):
            self.model.module(x)
        (read,) = taken
        return averaged.before(read)


class _Averaged(TorchFunctionMode):
    """Remembers the last maps float[b, c, h, w] that a call made one number per channel of."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        x = args[0] if args else None
        if isinstance(x, Tensor) and isinstance(out, Tensor) and x.dim() == 4:
            channels = x.shape[0] * x.shape[1]
            if x.shape[:2] == out.shape[:2] and out.numel() == channels < x.numel():
                self.maps = x
        return out

    def before(self, read: Tensor) -> Tensor:
        """float[b, in, s]: the maps whose means are read: float[b, in, 1]; what is read itself if it has positions."""
        if read.shape[2] > 1 or self.maps is None or self.maps.shape[:2] != read.shape[:2]:
            return read
        maps = self.maps.flatten(2)
        same = torch.allclose(maps.mean(2), read[:, :, 0], rtol=1e-3, atol=1e-5)
        return maps if same else read


def plane(positions: int, shape: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of so many positions over a picture of H × W pixels, a class token before them allowed; None if none."""
    for count in (positions, positions - 1):
        height = round(math.sqrt(count * shape[0] / shape[1])) if count > 1 else 0
        if not height or count % height:
            continue
        width = count // height
        if count == positions or height * shape[1] == width * shape[0]:
            return height, width
    return None


def bounds(touched: Tensor) -> Box | None:
    """left, top, right, bottom of what is above 0 in float[H, W]."""
    rows, columns = touched.amax(1).nonzero().flatten(), touched.amax(0).nonzero().flatten()
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _once(wanted: str, layout: Layout, samples: int, taken: list[Tensor]) -> Callable[[str, Tensor, int], None]:
    def see(name: str, x: Tensor, axis: int) -> None:
        if name == wanted:
            taken.append(layout.maps(x, axis, samples))
            raise _SeenError

    return see
