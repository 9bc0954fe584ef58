"""Class names in their natural order, and whether a set of labels can be learnt from."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from surgery.data.findings import Findings
from surgery.errors import DataError

MAX_CLASSES = 10_000


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which "2" comes before "10" and "b2" before "b10"."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts)


class Coder:
    """Numbers texts in the order in which they appear, and sorts them at the end."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def code(self, label: str) -> int:
        """The number of a label.

        Raises:
            DataError: there are more classes than anybody could look at.
        """
        number = self.codes.setdefault(label, len(self.codes))
        if number >= MAX_CLASSES:
            raise DataError(
                f"There are more than {MAX_CLASSES:,} different labels, the last one {label[:40]!r}.",
                "Choose a column of classes as the target, or import it as a regression if it is a number.",
            )
        return number

    def finish(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The classes in natural order, and for each number given out its place among them."""
        classes = sorted(self.codes, key=natural)
        place = np.empty(len(classes), dtype=np.int64)
        for position, label in enumerate(classes):
            place[self.codes[label]] = position
        return tuple(classes), place


def check_classes(classes: Sequence[str], labels: NDArray[np.int64], findings: Findings) -> None:
    """Refuse fewer than two classes with samples; name those with a single sample.

    Raises:
        DataError: one class only, or no class has a second sample.
    """
    counts = np.bincount(labels, minlength=len(classes))
    present = np.flatnonzero(counts).tolist()
    if len(present) < 2:
        only = f"only one class, {classes[present[0]]!r}" if len(present) else "no usable sample of any class"
        raise DataError(
            f"There is {only}; a classification needs at least two.",
            "Add samples of a second class, or import the data as unlabelled.",
            problems=findings.problems(),
        )
    if counts.max() == 1:
        raise DataError(
            f"Each of the {len(present):,} classes has a single sample: the target looks like an identifier.",
            "Choose another target, or add samples.",
            problems=findings.problems(),
        )
    for number in np.flatnonzero(counts == 1).tolist():
        findings.warn(
            f"class {classes[number]!r}",
            "It has a single sample, which is used for training: its accuracy cannot be measured.",
            "Add samples of this class, or remove it.",
        )
