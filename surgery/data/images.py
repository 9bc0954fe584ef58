"""A folder or zip of images into a dataset: decoded once, one at a time, streamed to disk at a common size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from surgery.context import Context
from surgery.data.dataset import Dataset, Heading, Task
from surgery.data.files import Files
from surgery.data.findings import Findings
from surgery.data.labels import Coder
from surgery.data.layout import Entry, arrange
from surgery.data.pixels import decode, measure, thumbnail
from surgery.data.splits import spread
from surgery.data.writer import Writer
from surgery.errors import DataError

SURVEY = 2_000  # files whose heads decide size and colour
MAX_STORED = 4096  # pixels of a side that is asked for
MAX_SIDE = 256  # pixels of the shorter side, unless a size is asked for
BLOCK = 128  # images written at once


def import_images(
    files: Files,
    folder: Path,
    *,
    name: str,
    task: Task | None,
    size: tuple[int, int] | None,
    ctx: Context,
    seed: int,
) -> Dataset:
    """Import the images of `files` at `size` (height, width), by default the most common one.

    Raises:
        DataError: no layout is recognised, nothing is usable, or one class only.
        DiskFullError: the pixels do not fit on the disk.
    """
    if task == "regression":
        raise DataError("Folders of images hold classes, not numbers to predict.", "Use an .npz with x and y instead.")
    if size is not None and not all(1 <= side <= MAX_STORED for side in size):
        raise DataError(f"Images of {size[0]}×{size[1]} cannot be stored.", f"Choose sides from 1 to {MAX_STORED}.")
    findings, coder = Findings(), Coder()
    entries = arrange(files.names, task, findings)
    form, mode = _survey(files, entries, size, findings)
    shape = (*form, 1 if mode == "L" else 3)
    with Writer(folder, shape) as writer:
        writer.reserve(len(entries))
        for block, pixels in _decoded(files, entries, form, mode, findings, ctx):
            labels = np.array([coder.code(entry.label) for entry in block])
            writer.add(pixels, labels, [entry.name for entry in block], role=block[0].role, findings=findings)
        return _finish(writer, coder, name, findings, seed, labelled=any(entry.label for entry in entries))


def peek_images(files: Files, limit: int) -> list[tuple[bytes, str]]:
    """(PNG, label) of a few images, in turn from every class; unreadable ones are passed over."""
    entries = arrange(files.names, None, Findings())
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


def _finish(writer: Writer, coder: Coder, name: str, findings: Findings, seed: int, *, labelled: bool) -> Dataset:
    classes, places = coder.finish()
    heading = Heading(
        name=name,
        kind="images",
        task="classification" if labelled else "unlabelled",
        classes=classes if labelled else (),
    )
    targets = places[writer.targets().astype(np.int64)]
    return writer.finish(heading, findings, targets=targets, seed=seed)


def _survey(
    files: Files, entries: Sequence[Entry], size: tuple[int, int] | None, findings: Findings
) -> tuple[tuple[int, int], str]:
    """The common (height, width), and "L" when all are gray, else "RGB"."""
    sizes: Counter[tuple[int, int]] = Counter()
    gray = True
    for position in np.unique(np.linspace(0, len(entries) - 1, min(SURVEY, len(entries))).astype(int)).tolist():
        try:
            found, is_gray = measure(files.read(entries[position].name))
        except DataError:
            continue  # named when its turn comes
        sizes[found] += 1
        gray = gray and is_gray
    if size is not None:
        return size, "L" if gray else "RGB"
    common = sizes.most_common(1)[0][0] if sizes else (1, 1)
    scale = min(1.0, MAX_SIDE / min(common))
    form = (round(common[0] * scale), round(common[1] * scale))
    if scale < 1:
        findings.notes.append(
            f"Images of {common[1]}×{common[0]} pixels are stored as {form[1]}×{form[0]}; give a size to keep more."
        )
    return form, "L" if gray else "RGB"


def _decoded(
    files: Files, entries: Sequence[Entry], size: tuple[int, int], mode: str, findings: Findings, ctx: Context
) -> Iterator[tuple[list[Entry], NDArray[np.uint8]]]:
    """Blocks of one role; the images of other sizes are counted into a note at the end."""
    block: list[Entry] = []
    pixels: list[NDArray[np.uint8]] = []
    resized = 0
    for entry in ctx.track(entries, "reading images"):
        if block and (len(block) == BLOCK or entry.role != block[0].role):
            yield block, np.stack(pixels)
            block, pixels = [], []
        try:
            image, changed = decode(files.read(entry.name), size, mode)
        except DataError as error:
            findings.skip(entry.name, error.what, error.fix)
            continue
        resized += changed
        block.append(entry)
        pixels.append(image)
    if block:
        yield block, np.stack(pixels)
    if resized:
        findings.notes.append(
            f"{resized:,} of {len(entries):,} images had another size than {size[1]}×{size[0]}: "
            "they were scaled by their shorter side and cropped at the centre."
        )
