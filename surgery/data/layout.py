"""What the folders of an image dataset mean: splits, classes, or nothing.

Understood: `class/…/image`, `train/class/…`, `test/class/…`, `val/class/…`, plain images without classes, and any of
these inside wrapping folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.data.findings import Findings
from surgery.data.reading import SplitUse
from surgery.data.splits import IN_ORDER, NAMES, uses
from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.dataset import Task

FIX_LAYOUT = "Put the images of each class into a folder named after it."


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: role "deal" = split anew, label "" = unlabelled."""

    name: str
    role: SplitUse
    label: str


def arrange(
    names: Sequence[str], task: Task | None, findings: Findings, said: Mapping[str, SplitUse] | None = None
) -> list[Entry]:
    """Role and label of every file, split by split, each sorted by name; files outside all classes are skipped.

    said: what becomes of a split, where the user says so.

    Raises:
        DataError: there are no files, splits without classes, a split that nothing is known of, or one class only.
    """
    if not names:
        raise DataError("There are no files.", FIX_LAYOUT)
    parts = [name.split("/") for name in names]
    if task == "unlabelled" or all(len(part) == 1 for part in parts):
        entries = [Entry(name, "deal", "") for name in names]
    else:
        entries = _labelled(names, _unwrapped(parts), findings, said or {})
    return sorted(entries, key=lambda entry: (IN_ORDER.index(entry.role), entry.name))


def splits_of(names: Sequence[str]) -> dict[str, list[str]]:
    """The files of each split folder, by its name in lower case; {} where there are no splits."""
    parts = _unwrapped([name.split("/") for name in names])
    found: dict[str, list[str]] = {}
    if not _is_split(parts):
        return found
    for name, part in zip(names, parts, strict=True):
        if len(part) > 2:
            found.setdefault(part[0].lower(), []).append(name)
    return found


def without_images(empty: Sequence[str], names: Sequence[str], findings: Findings) -> None:
    """Name the folders that look like classes, but hold no file."""
    depth = max((name.count("/") for name in names), default=0)
    for folder in empty:
        if folder.count("/") + 1 == depth:
            findings.warn(
                folder, "The folder is empty: there is no such class in the dataset.", "Put images in, or remove it."
            )


def _unwrapped(parts: list[list[str]]) -> list[list[str]]:
    """Without the folders that hold everything; a split that holds everything is no wrapping."""
    while True:
        tops = {part[0] for part in parts if len(part) > 1}
        deep = any(len(part) > 2 for part in parts)
        if len(tops) != 1 or not deep or tops.pop().lower() in NAMES:
            return parts
        parts = [part[1:] if len(part) > 1 else part for part in parts]


def _is_split(parts: Sequence[Sequence[str]]) -> bool:
    """Whether the top folders are splits with class folders in them: all are called so, or two different ones are."""
    inner = {part[0].lower() for part in parts if len(part) > 2}
    tops = {part[0].lower() for part in parts if len(part) > 1}
    known = {NAMES[top] for top in inner if top in NAMES}
    return bool(known) and (tops <= set(NAMES) or len(known) > 1)


def _labelled(
    names: Sequence[str], parts: list[list[str]], findings: Findings, said: Mapping[str, SplitUse]
) -> list[Entry]:
    tops = list(dict.fromkeys(part[0].lower() for part in parts if len(part) > 1))
    if set(tops) <= set(NAMES) and len({NAMES[top] for top in tops}) > 1 and not any(len(part) > 2 for part in parts):
        raise DataError(
            f"The folders {', '.join(sorted(tops))} hold images directly, without classes.",
            f"{FIX_LAYOUT} Or import them as unlabelled.",
        )
    split = _is_split(parts)
    if said and not split:
        uses([], said)
    found = uses([top for top in tops if any(len(p) > 2 and p[0].lower() == top for p in parts)], said) if split else {}
    entries = []
    for name, part in zip(names, parts, strict=True):
        if len(part) < 2 + split:
            findings.skip(name, "It lies outside the class folders.", "Move it into a class folder, or remove it.")
        elif not split:
            entries.append(Entry(name, "deal", part[0]))
        elif (role := found[part[0].lower()]) != "drop":
            entries.append(Entry(name, role, part[1]))
    if split and not entries:
        raise DataError("All splits of the file are left out.", "Use at least one of them.")
    _check_labels(entries)
    return entries


def _check_labels(entries: list[Entry]) -> None:
    labels = {entry.label for entry in entries}
    if len(labels) == 1:
        raise DataError(
            f"There is only one class, {labels.pop()!r}; a classification needs at least two.",
            f"{FIX_LAYOUT} Or import the images as unlabelled.",
        )
