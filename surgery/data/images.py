"""A folder or zip of images into a dataset: decoded once, one at a time, streamed to disk at a common size."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from surgery.data.files import HEAD, Files
from surgery.data.findings import Findings
from surgery.data.layout import Entry, arrange, without_images
from surgery.data.pixels import decode, measure, thumbnail
from surgery.data.portions import Opening, Options, Place, Portion, Reader
from surgery.data.reading import SplitUse
from surgery.data.splits import spread
from surgery.errors import DataError

SURVEY = 2_000  # files whose heads decide size and colour
MAX_STORED = 4096  # pixels of a side that is asked for
MAX_SIDE = 256  # pixels of the shorter side, unless a size is asked for
BLOCK = 128  # images given at once
BLOCK_PIXELS = 16_000_000  # bytes of pixels given at once, where one image is not larger
ALIVE = 0.5  # seconds after which what there is is given


def read_images(files: Files, options: Options, place: Place) -> Reader:
    """Give the images of `files` at the size that is asked for, by default the most common one.

    Raises:
        DataError: no layout is recognised, or one class only.
    """
    size = options.size
    if options.task == "regression":
        raise DataError("Folders of images hold classes, not numbers to predict.", "Use an .npz with x and y instead.")
    if size is not None and not all(1 <= side <= MAX_STORED for side in size):
        raise DataError(f"Images of {size[0]}×{size[1]} cannot be stored.", f"Choose sides from 1 to {MAX_STORED}.")
    findings = files.found
    entries = arrange(files.names, options.task, findings, options.splits)
    without_images(files.empty, files.names, findings)
    fixed = dict(place.fixed)
    if not fixed:
        sizes: Counter[tuple[int, int]] = Counter()
        gray = True
        for found, is_gray in _survey(files, entries):
            if found is None:
                yield None
                continue
            sizes[found] += 1
            gray = gray and is_gray
        fixed = {"size": size or _common(sizes, findings), "mode": "L" if gray else "RGB"}
    shape = (*fixed["size"], 1 if fixed["mode"] == "L" else 3)
    opening = Opening(
        kind="images", row=shape, count=len(entries), steps=len(entries), stage="reading images", parts=True
    )
    if any(entry.label for entry in entries):
        opening = replace(opening, labels="words")
    yield replace(opening, fixed=fixed, findings=findings.drained())
    for portion in _decoded(files, entries, (shape[0], shape[1]), fixed["mode"], findings, place):
        yield replace(portion, findings=findings.drained())


def name_of(files: Files, options: Options, position: int) -> str:
    """The file that is read at a position."""
    return arrange(files.names, options.task, Findings(), options.splits)[position].name


def peek_images(files: Files, limit: int, splits: Mapping[str, SplitUse] | None = None) -> list[tuple[bytes, str]]:
    """(PNG, label) of a few images, in turn from every class; unreadable ones are passed over."""
    entries = arrange(files.names, None, Findings(), splits)
    numbers = {label: number for number, label in enumerate(sorted({entry.label for entry in entries}))}
    strata = np.array([numbers[entry.label] for entry in entries])
    shown: list[tuple[bytes, str]] = []
    for position in spread(strata, 4 * limit, 0, even=True).tolist():
        if len(shown) == limit:
            break
        try:
            shown.append((thumbnail(files.read(entries[position].name)), entries[position].label))
        except DataError:
            continue
    return shown


def _survey(files: Files, entries: Sequence[Entry]) -> Iterator[tuple[tuple[int, int] | None, bool]]:
    """((height, width), is gray) of some of the images, by their heads; (None, False) is a sign of life."""
    told = time.monotonic()
    for position in np.unique(np.linspace(0, len(entries) - 1, min(SURVEY, len(entries))).astype(int)).tolist():
        if time.monotonic() - told > ALIVE:
            yield None, False
            told = time.monotonic()
        try:
            yield _measured(files, entries[position].name)
        except DataError:
            continue  # named when its turn comes


def _measured(files: Files, name: str) -> tuple[tuple[int, int], bool]:
    """((height, width), is gray) of an image, by its head where that is enough."""
    head = files.head(name)
    try:
        return measure(head)
    except DataError:
        if len(head) < HEAD:
            raise
    return measure(files.read(name))


def _common(sizes: Counter[tuple[int, int]], findings: Findings) -> tuple[int, int]:
    """The most common (height, width), scaled down where it is large."""
    common = sizes.most_common(1)[0][0] if sizes else (1, 1)
    scale = min(1.0, MAX_SIDE / min(common))
    form = (round(common[0] * scale), round(common[1] * scale))
    if scale < 1:
        findings.notes.append(
            f"Images of {common[1]}×{common[0]} pixels are stored as {form[1]}×{form[0]}; give a size to keep more."
        )
    return form


def _decoded(
    files: Files, entries: Sequence[Entry], size: tuple[int, int], mode: str, findings: Findings, place: Place
) -> Iterator[Portion]:
    """Portions of one role."""
    most = 1 if place.alone else max(1, min(BLOCK, BLOCK_PIXELS // (size[0] * size[1] * len(mode))))
    block: list[Entry] = []
    pixels: list[NDArray[np.uint8]] = []
    changed = steps = 0
    began = time.monotonic()
    for position, entry in enumerate(entries[place.start :], place.start):
        if steps and (steps == most or time.monotonic() - began > ALIVE or entry.role != entries[position - 1].role):
            portion = _portion(block, pixels, (*size, len(mode)))
            yield replace(portion, steps=steps, next=position, changed=changed)
            block, pixels, changed, steps, began = [], [], 0, 0, time.monotonic()
        steps += 1
        try:
            image, resized = decode(files.read(entry.name), size, mode)
        except DataError as error:
            findings.skip(entry.name, error.what, error.fix)
            continue
        changed += resized
        block.append(entry)
        pixels.append(image)
    if steps:
        portion = _portion(block, pixels, (*size, len(mode)))
        yield replace(portion, steps=steps, next=len(entries), changed=changed)


def _portion(block: list[Entry], pixels: list[NDArray[np.uint8]], form: tuple[int, ...]) -> Portion:
    return Portion(
        samples=np.stack(pixels) if pixels else np.empty((0, *form), np.uint8),
        where=[entry.name for entry in block],
        words=[entry.label for entry in block],
        role=block[0].role.replace("deal", "") if block else "",
    )


def changed_note(changed: int, opening: Opening) -> str:
    """What is said of images that had another size."""
    height, width = opening.row[:2]
    return (
        f"{changed:,} of {opening.count:,} images had another size than {width}×{height}: "
        "they were scaled by their shorter side and cropped at the centre."
    )
