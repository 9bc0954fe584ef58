"""One pass over a model: each layer's input is reduced the moment it is read, and let go of.

Few large steps per layer, since a scan of a small network is bound by their number: what a batch shows is collected
per layer and added to the statistics once, at its end.

Letters: N neurons, M neurons seen, b samples of a batch, n neurons of one source, s positions of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from surgery.analysis.kept import StrongestClasses
from surgery.analysis.moments import Moments
from surgery.analysis.responses import Sampled
from surgery.analysis.sources import Source, columns, sources
from surgery.analysis.strongest import Strongest
from surgery.analysis.watch import layouts
from surgery.errors import ModelError
from surgery.network.index import NeuronIndex
from surgery.network.model import InputSpec


class Reading:
    """The running statistics of a pass: `begin` a batch, run the model with `see` watching, `end` it.

    columns: int64[N], the column of each neuron in `moments` and `strongest`, −1 where it is seen nowhere.
    functional: the layers that `watch` must see through the function mode. bounded: samples come class by class, and
        only the strongest classes of each neuron are kept.
    """

    moments: Moments | StrongestClasses

    def __init__(
        self, module: nn.Module, index: NeuronIndex, input: InputSpec, classes: int, device: str, *, bounded: bool
    ) -> None:
        self.layouts = layouts(module, index, input.example(2, device))
        self._at_end = input.kind == "text"
        self.functional = {name for name, layout in self.layouts.items() if layout.functional}
        found = [source for source in sources(index) if source.layer in self.layouts]
        self.columns = columns(index, found)
        self.moments = (StrongestClasses if bounded else Moments)(classes, found[-1].stop if found else 0)
        self.strongest = Strongest(self.moments.neurons)
        self.sampled = Sampled(torch.zeros(0, dtype=torch.long), 0)
        self._device = device
        self._sources: dict[str, list[Source]] = {name: [] for name in self.layouts}
        for source in found:
            self._sources[source.layer].append(source)
        self._inputs = {name: len(index.layers[name].cols) for name in self.layouts}
        self._sums: dict[str, Tensor] = {}
        self._reads = dict.fromkeys(self.layouts, 0)
        self._scratch = torch.empty(0, device=device)

    def remember(self, samples: Tensor) -> None:
        """Keep what these samples show, int64[S] rising, besides their averages; numbered as in `begin`."""
        self.sampled = Sampled(samples, self.moments.neurons)

    def begin(self, samples: Tensor) -> None:
        """Make ready for a batch of samples: int64[b] on the CPU, numbers that rise from batch to batch."""
        self._samples = samples.numpy()
        self._values: dict[int, Tensor] = {}  # first column -> float[b, n]
        self._active: dict[int, Tensor] = {}
        self._fresh = set(self.layouts)

    def see(self, name: str, x: Tensor, axis: int) -> None:
        """Take what layer `name` receives, with its channels along `axis`."""
        layout = self.layouts.get(name)
        if layout is None:
            return
        found = self._sources[name] if name in self._fresh else []
        self._fresh.discard(name)
        if layout.same_as is not None and not found:
            return
        maps = layout.maps(x, axis, len(self._samples))
        each = self._average(maps)
        if self._at_end and maps.shape[2] > 1:  # the last character is the one whose successor is asked for
            self._add(name, each)
            maps = maps[:, :, -1:]
            each = self._average(maps)
        elif not self._is_whole(name):
            self._add(name, each)
        for source in found:
            self._describe(source, maps, each)

    def end(self, groups: Tensor) -> None:
        """Add the batch to the statistics; groups: int64[b], the class of each sample."""
        if not self._values:
            return
        starts = sorted(self._values)
        values = torch.cat([self._values[start] for start in starts], 1).cpu()
        if len(self.sampled.samples):
            self.sampled.add(values, torch.from_numpy(self._samples))
        self.moments.add(values, torch.cat([self._active[start] for start in starts], 1).cpu(), groups)
        self.strongest.settle()

    def check_finite(self) -> None:
        """Refuse statistics of NaN or infinity.

        Raises:
            ModelError: naming the first layer that receives them.
        """
        finite = self.moments.finite
        for name, found in self._sources.items():
            for source in found:
                if not bool(finite[source.start : source.stop].all()):
                    raise ModelError(
                        f"What layer {name!r} receives is NaN or infinite on this data.",
                        "Check the weights before it and the normalisation of the input.",
                    )

    def means(self) -> dict[str, Tensor]:
        """layer -> float64[in]: what each input position received on average."""
        total = self.moments.overall
        found = {}
        for name, layout in self.layouts.items():
            owner = layout.same_as or name
            if self._is_whole(owner):
                source = self._sources[owner][0]
                found[name] = total[source.start : source.stop]
            else:
                found[name] = self._sums[owner] / self._reads[owner]
        return found

    def _is_whole(self, name: str) -> bool:
        """Whether a layer's mean input is the mean activation of the neurons that are seen at it."""
        found = self._sources[name]
        if name in self._sums:
            return False
        return len(found) == 1 and found[0].covers(self._inputs[name]) and self.layouts[name].calls == 1

    def _add(self, name: str, each: Tensor) -> None:
        total = each.sum(0, dtype=torch.float64)
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._reads[name] += len(each)

    def _describe(self, source: Source, maps: Tensor, each: Tensor) -> None:
        own, values = maps, each
        if not source.covers(maps.shape[1]):
            own = source.select(maps).flatten(2)  # [b, n, k · s]
            values = source.select(each).mean(2)  # [b, n]
        self._values[source.start] = values
        self._active[source.start] = self._share(own)
        self.strongest.offer(source.start, values, own, self._samples)

    def _share(self, maps: Tensor) -> Tensor:
        """float[b, n]: the share of positions above 0."""
        if maps.shape[2] == 1:
            return maps[:, :, 0].gt(0).float()
        if self._scratch.numel() < maps.numel():
            self._scratch = torch.empty(maps.numel(), device=self._device)
        positive = self._scratch[: maps.numel()].view(maps.shape)
        torch.gt(maps, 0, out=positive)  # into float at once: four times faster than reducing bool
        return self._average(positive)

    def _average(self, maps: Tensor) -> Tensor:
        """float[b, n] of float[b, n, s]."""
        if maps.shape[2] == 1:
            return maps[:, :, 0].clone()  # a model may go on to change its tensor in place
        return maps.mean(2)
