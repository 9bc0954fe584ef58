"""A plain name for a neuron, and how far it can be trusted: found on one half of the samples, tested on the other.

A name is the classes (one to three) or the concept that most of the neuron's strongest samples share. Its precision is
measured on the strongest samples of the half that it was not found on; it counts only if even the lower end of its
interval beats chance, so that shuffled activations come out "unclear". The papers name no neurons: all this is ours.
Nothing here needs torch: pages show the evidence with the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["class", "concept", "unclear"]
STRONGEST = 25  # samples of each half
FEWEST = 5  # held-out samples, below which nothing is claimed
TOGETHER = 3  # classes in one name
AGREED = 0.75  # of the strongest samples of the first half must be what the name says
RELIABLE = 0.6  # of the held-out ones
Z = 3.09  # one-sided 99.9 %: among thousands of neurons some would pass a weaker test by luck

Ints = NDArray[np.int64]
Members = NDArray[np.bool_]


@dataclass(frozen=True)
class Name:
    """What a neuron stands for. precision: share (0–1) of the `held_out` strongest unseen samples that fit the name;
    chance: the share of all unseen samples that fit it. classes: which the name means.
    """

    kind: Kind
    text: str = ""
    precision: float = float("nan")
    held_out: int = 0
    chance: float = float("nan")
    classes: tuple[int, ...] = ()


UNCLEAR = Name("unclear")


def names(
    values: NDArray[np.float32],
    groups: Ints,
    classes: Sequence[str],
    concepts: Members | None = None,
    called: Sequence[str] = (),
) -> list[Name]:
    """A name for each row of values: float32[P, S], the activations on S samples.

    groups: int64[S], the class of each sample among `classes`. concepts: bool[S, K], named by `called`.
    """
    if concepts is None:
        concepts = np.zeros((len(groups), 0), dtype=bool)
    first, second = halves(groups)
    known = _Known(groups[second], concepts[second], tuple(classes), tuple(called))
    found = []
    for row in values:
        bar = row.mean()  # what is not above the average is not "strong"
        shown, held = strongest(row[first], bar), strongest(row[second], bar)
        own = known.by_class(groups[first[shown]], held)
        found.append(own if own.kind != "unclear" else known.by_concept(concepts[first[shown]], held))
    return found


def halves(groups: Ints) -> tuple[Ints, Ints]:
    """Places of two halves of samples, every class dealt to both in turn; groups: int64[S]."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    start = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1)) if len(ordered) else np.zeros(0, dtype=np.int64)
    rank = np.arange(len(ordered)) - np.repeat(start, np.diff(start, append=len(ordered)))
    return np.sort(order[rank % 2 == 0]), np.sort(order[rank % 2 == 1])


def strongest(row: NDArray[np.float32], bar: float, count: int = STRONGEST) -> Ints:
    """Places of the at most `count` largest values above `bar`, largest first."""
    order = np.argsort(-row, kind="stable")[:count]
    chosen: Ints = order[row[order] > bar]
    return chosen


def wilson(hits: int, n: int, z: float = Z) -> float:
    """The lower end of the interval of a share (Wilson's score interval)."""
    share, z2 = hits / n, z * z
    return float((share + z2 / (2 * n) - z * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n))


@dataclass(frozen=True)
class _Known:
    """The half on which names are tested."""

    groups: Ints
    concepts: Members
    classes: tuple[str, ...]
    called: tuple[str, ...]

    def by_class(self, shown: Ints, held: Ints) -> Name:
        """The fewest classes that make up most of the labels `shown`, tested on the places `held`."""
        if len(shown) < FEWEST or len(self.classes) < 2:
            return UNCLEAR
        ranked = Counter(shown.tolist()).most_common(min(TOGETHER, len(self.classes) - 1))
        sums = np.cumsum([count for _, count in ranked]) / len(shown)
        size = int(np.searchsorted(sums, AGREED)) + 1
        if size > len(ranked):
            return UNCLEAR
        chosen = tuple(sorted(number for number, _ in ranked[:size]))
        text = " or ".join(self.classes[number] for number in chosen)
        return self._tested("class", text, np.isin(self.groups, chosen), held, chosen)

    def by_concept(self, shown: Members, held: Ints) -> Name:
        """The concept that most of the samples `shown`: bool[k, K] have."""
        if len(shown) < FEWEST or not shown.shape[1]:
            return UNCLEAR
        share = shown.mean(0)
        best = int(share.argmax())
        if share[best] < AGREED:
            return UNCLEAR
        return self._tested("concept", self.called[best], self.concepts[:, best], held)

    def _tested(self, kind: Kind, text: str, fits: Members, held: Ints, classes: tuple[int, ...] = ()) -> Name:
        held = held[: max(FEWEST, int(fits.sum()))]  # a rare class cannot fill more places
        if len(held) < FEWEST:
            return UNCLEAR
        hits, chance = int(fits[held].sum()), float(fits.mean())
        precision = hits / len(held)
        if precision < RELIABLE or wilson(hits, len(held)) <= chance:
            return UNCLEAR
        return Name(kind, text, precision, len(held), chance, classes)
