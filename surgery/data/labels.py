"""Class names in their natural order, and whether a set of labels can be learnt from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from surgery.data.findings import Findings
from surgery.data.limits import NAME
from surgery.data.names import alike, difference, visible
from surgery.errors import DataError
from surgery.matching import some

SameNames = Literal["keep", "merge"]
MAX_CLASSES = 10_000
NAMED = 20  # renamed classes in a note


def natural(text: str) -> tuple[tuple[int, int, str, str], ...]:
    """A sort key under which "2" comes before "10" and "b2" before "b10"."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple(_number(part) if part[0] in "0123456789" else (1, 0, part, part) for part in parts)


def _number(digits: str) -> tuple[int, int, str, str]:
    """Sorts by value without making it: a name may have more digits than a number can."""
    plain = digits.lstrip("0")
    return 0, len(plain), plain, digits


class Coder:
    """Numbers texts in the order in which they appear, and sorts them at the end."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.changed = False  # whether a label had characters that cannot be seen

    def code(self, label: str) -> int:
        """The number of a label; characters that cannot be seen are written as their codes.

        Raises:
            DataError: it is too long, or there are more classes than anybody could look at.
        """
        known = self.codes.get(label)
        if known is not None:
            return known
        if len(label) > NAME:
            raise DataError(
                f"The label {label[:40]!r} … has {len(label):,} characters; the name of a class may have {NAME:,}.",
                "Choose a column of classes as the target, or shorten the names.",
            )
        shown = visible(label)
        self.changed = self.changed or shown != label
        number = self.codes.setdefault(shown, len(self.codes))
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


def renamed(
    classes: Sequence[str], labels: NDArray[np.int64], names: Mapping[str, str], findings: Findings
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes in natural order and labels int64[n] under other names; classes of one new name become one.

    names: old name -> new name.

    Raises:
        DataError: there is no such class, or a name that no class can have.
    """
    if not names:
        return tuple(classes), labels
    require_names(classes, names)
    new = [names.get(name, name) for name in classes]
    order = sorted(set(new), key=natural)
    place = np.array([order.index(name) for name in new], dtype=np.int64)
    pairs = [f"{old!r} to {name!r}" for old, name in names.items() if old != name]
    if pairs:
        more = f" and {len(pairs) - NAMED:,} more" if len(pairs) > NAMED else ""
        findings.notes.append(f"Classes were renamed: {', '.join(pairs[:NAMED])}{more}.")
    return tuple(order), place[labels]


def require_names(classes: Sequence[str], names: Mapping[str, str]) -> None:
    """Refuse new names for classes that are not there, and names that no class can have.

    Raises:
        DataError: naming it.
    """
    if strange := [name for name in names if name not in classes]:
        raise DataError(
            f"There is no class {strange[0]!r} to rename; the classes are {some(classes)}.",
            "Write OLD=NEW with a class of this dataset as OLD.",
        )
    for name in names.values():
        if not name.strip() or len(name) > NAME or visible(name) != name:
            raise DataError(
                f"{name[:40]!r} cannot be the name of a class.",
                f"Give one of 1 to {NAME:,} visible characters.",
            )


def settled(
    classes: tuple[str, ...], labels: NDArray[np.int64], same_names: SameNames, findings: Findings
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes and labels int64[n], where names are equal but for Unicode form, case or blanks: named, or put together.

    Those that are put together get the name that most samples have.
    """
    groups = alike(classes)
    place = np.arange(len(classes))
    counts = np.bincount(labels, minlength=len(classes))
    for group in groups:
        main = max(group, key=lambda one: (counts[one], -one))
        for other in (one for one in group if one != main):
            how = difference(classes[main], classes[other])
            what = f"It differs from {classes[main]!r} in {how} only"
            if same_names == "merge":
                findings.warn(f"class {classes[other]!r}", f"{what}, and was put together with it.", "")
                place[other] = main
            else:
                fix = "Import it again with such classes merged, or rename one of them."
                findings.warn(f"class {classes[other]!r}", f"{what}, and was kept apart.", fix)
    kept = np.unique(place)
    return tuple(classes[one] for one in kept.tolist()), np.searchsorted(kept, place)[labels]


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
