"""Which points share a colour: labels with counts, at most twelve of them, the rest under "other".

A legend row is a group of neuron ids that can be taken as a whole, so it is data, not a part of the figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from surgery.charts.palette import GROUPED

MOST = 12
OTHER = "other"


@dataclass(frozen=True)
class Legend:
    """The shown label of every point, and colour and count of every shown label in their order."""

    labels: tuple[str, ...]
    colours: Mapping[str, str]
    counts: Mapping[str, int]

    def places(self, label: str) -> list[int]:
        """The positions of the points that carry `label`."""
        return [place for place, shown in enumerate(self.labels) if shown == label]


def legend(values: Sequence[str], colours: Mapping[str, str], *, most: int = MOST) -> Legend:
    """Group `values` under at most `most` labels, in the order of `colours`; the rarest become "other"."""
    counts = Counter(values)
    present = [name for name in colours if counts[name]]
    shown = present
    if len(present) > most:
        commonest = sorted(present, key=lambda name: -counts[name])[: most - 1]
        shown = [name for name in present if name in set(commonest)]
    known = set(shown)
    labels = tuple(value if value in known else OTHER for value in values)
    palette = {name: colours[name] for name in shown}
    if OTHER in labels and OTHER not in known:
        palette[OTHER] = GROUPED
    return Legend(labels, palette, Counter(labels))


def stages(layers: Sequence[str], *, most: int = MOST) -> dict[str, str]:
    """The name under which each layer is shown: its own, or that of its stage where there are too many layers.

    `layer1.0.conv1` and `layer1.1.conv2` become `layer1`: the longest beginnings of which there are few enough.
    """
    parts = {name: name.split(".") for name in layers}
    for length in range(max(map(len, parts.values()), default=1), 0, -1):
        shown = {name: ".".join(words[:length]) for name, words in parts.items()}
        if len(set(shown.values())) <= most:
            break
    return shown
