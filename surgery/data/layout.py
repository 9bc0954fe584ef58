"""What the folders of an image dataset mean: splits, classes, or nothing.

Understood: `class/…/image`, `train/class/…`, `test/class/…`, `val/class/…`, plain images without classes, and any of
these inside wrapping folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.data.findings import Findings
from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.dataset import Task

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ORDER = ("test", "val", "train", "")  # contents seen in an earlier split are left out of a later one
FIX_LAYOUT = "Put the images of each class into a folder named after it."


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: role "" = to be dealt, label "" = unlabelled."""

    name: str
    role: str
    label: str


def arrange(names: Sequence[str], task: Task | None, findings: Findings) -> list[Entry]:
    """Role and label of every file, split by split, each sorted by name; files outside all classes are skipped.

    Raises:
        DataError: there are no files, splits without classes, or one class only.
    """
    if not names:
        raise DataError("There are no files.", FIX_LAYOUT)
    parts = [name.split("/") for name in names]
    if task == "unlabelled" or all(len(part) == 1 for part in parts):
        entries = [Entry(name, "", "") for name in names]
    else:
        entries = _labelled(names, _unwrapped(parts), findings)
    return sorted(entries, key=lambda entry: (ORDER.index(entry.role), entry.name))


def _unwrapped(parts: list[list[str]]) -> list[list[str]]:
    """Without the folders that hold everything."""
    while True:
        tops = {part[0] for part in parts if len(part) > 1}
        if len(tops) != 1 or not any(len(part) > 2 for part in parts):
            return parts
        parts = [part[1:] if len(part) > 1 else part for part in parts]


def _labelled(names: Sequence[str], parts: list[list[str]], findings: Findings) -> list[Entry]:
    tops = {part[0].lower() for part in parts if len(part) > 1}
    split = len({SPLITS.get(top) for top in tops}) > 1 and tops <= set(SPLITS)
    if split and not any(len(part) > 2 for part in parts):
        raise DataError(
            f"The folders {', '.join(sorted(tops))} hold images directly, without classes.",
            f"{FIX_LAYOUT} Or import them as unlabelled.",
        )
    whole = "train" if any(SPLITS.get(top) == "val" for top in tops) else ""
    entries = []
    for name, part in zip(names, parts, strict=True):
        if len(part) < 2 + split:
            findings.skip(name, "It lies outside the class folders.", "Move it into a class folder, or remove it.")
        elif split:
            role = SPLITS.get(part[0].lower(), "")
            entries.append(Entry(name, whole if role == "train" else role, part[1]))
        else:
            entries.append(Entry(name, "", part[0]))
    _check_labels(entries)
    return entries


def _check_labels(entries: list[Entry]) -> None:
    labels = {entry.label for entry in entries}
    if len(labels) == 1:
        raise DataError(
            f"There is only one class, {labels.pop()!r}; a classification needs at least two.",
            f"{FIX_LAYOUT} Or import the images as unlabelled.",
        )
