"""An .npz into a dataset: [n, f] is a table; [n, h, w], [n, h, w, c] and [n, c, h, w] are images.

Images that are not stored as bytes are brought to 0–255: 0–1 is multiplied by 255, 0–255 is rounded, any other range
is stretched, and a note says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgery.context import Context
from surgery.data.columns import FEW, usable
from surgery.data.dataset import Dataset, Heading, Kind, Task
from surgery.data.findings import Findings
from surgery.data.labels import MAX_CLASSES
from surgery.data.npzfile import Npz
from surgery.data.pixels import to_png
from surgery.data.splits import spread
from surgery.data.tablefile import MAX_COLUMNS
from surgery.data.targets import Targets
from surgery.data.writer import Writer
from surgery.errors import DataError

PARTS = {"x_test": "test", "x_val": "val", "x": "train"}  # in the order in which a Writer wants them
BYTE = (0.0, 255.0)


@dataclass(frozen=True)
class Form:
    """How a row of x becomes a stored sample. row: (height, width, channels) or (features,)."""

    row: tuple[int, ...]
    channels_first: bool = False
    span: tuple[float, float] = BYTE  # what becomes 0 and 255

    @property
    def kind(self) -> Kind:
        """Told by the number of axes."""
        return "images" if len(self.row) == 3 else "table"

    def samples(self, block: NDArray[Any]) -> NDArray[Any]:
        """uint8[k, h, w, c] of images, float64[k, f] of a table."""
        if self.kind == "table":
            return block.astype(np.float64)
        pixels = block.transpose(0, 2, 3, 1) if self.channels_first else block.reshape(-1, *self.row)
        if pixels.dtype == np.uint8:
            return pixels
        low, high = self.span
        scaled = (np.nan_to_num(pixels.astype(np.float64)) - low) * (255 / (high - low))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def import_npz(npz: Npz, folder: Path, *, name: str, task: Task | None, ctx: Context, seed: int) -> Dataset:
    """Import the arrays of an .npz; without y they are unlabelled.

    Raises:
        DataError: x has an unknown shape, a task is asked for without y, or nothing is usable.
        DiskFullError: the samples do not fit on the disk.
    """
    findings = Findings()
    form = _form(npz, findings)
    parts = [part for part in PARTS if part in npz.members]
    targets, classes = _targets(npz, task, images=form.kind == "images")
    with Writer(folder, form.row) as writer:
        writer.reserve(sum(npz.members[part].shape[0] for part in parts))
        for part in parts:
            role = "" if part == "x" and "x_val" not in npz.members else PARTS[part]
            blocks = _blocks(npz, part, form, targets, classes, findings)
            for samples, y, where in ctx.track(
                blocks, f"reading {npz.members[part].name}", total=npz.count_blocks(part)
            ):
                writer.add(samples, y, where, role=role, findings=findings)
        decided, labels, final = targets.finish(writer.targets(), classes)
        heading = Heading(name=name, kind=form.kind, task=decided, classes=labels, features=_features(npz, form))
        return writer.finish(heading, findings, targets=final, seed=seed)


def peek_npz(npz: Npz, limit: int) -> list[tuple[bytes | dict[str, object], str]]:
    """(PNG or row, label) of a few of the first samples, in turn from every label."""
    block = next(npz.blocks("x"), None)
    if block is None:
        return []
    form = _form(npz, Findings(), first=block)
    labels = _words(npz, len(block))
    features = _features(npz, form)
    shown = spread(np.unique(labels, return_inverse=True)[1], limit, 0, even=True)
    samples = form.samples(block[shown])
    rows = [to_png(one) if form.kind == "images" else dict(zip(features, one.tolist(), strict=True)) for one in samples]
    return [(row, labels[place]) for row, place in zip(rows, shown.tolist(), strict=True)]


def _form(npz: Npz, findings: Findings, first: NDArray[Any] | None = None) -> Form:
    """The form of x; the range is taken from `first` when given, else from everything."""
    member = npz.members["x"]
    shape = member.shape[1:]
    if len(shape) == 1 and 0 < shape[0] <= MAX_COLUMNS:
        return Form(shape)
    if len(shape) == 2:
        row, channels_first = (*shape, 1), False
    elif len(shape) == 3 and (shape[2] in (1, 3) or shape[0] in (1, 3)):
        channels_first = shape[2] not in (1, 3)
        row = (*shape[1:], shape[0]) if channels_first else shape
    else:
        raise DataError(
            f"{member.name!r} has the shape {list(member.shape)}.",
            f"Save [n, up to {MAX_COLUMNS:,} features], [n, h, w], [n, h, w, 1 or 3] or [n, 1 or 3, h, w].",
        )
    if 0 in row:
        raise DataError(f"{member.name!r} holds empty images: {list(member.shape)}.", "Save images with pixels.")
    if member.dtype == np.uint8:
        return Form(row, channels_first)
    blocks = (block for part in PARTS if part in npz.members for block in npz.blocks(part))
    return Form(row, channels_first, _span([first] if first is not None else blocks, findings))


def _span(blocks: Iterable[NDArray[Any]], findings: Findings) -> tuple[float, float]:
    """What becomes black and white."""
    low, high = np.inf, -np.inf
    for block in blocks:
        finite = block[np.isfinite(block)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and 128 <= high <= 255:
        return BYTE
    if not low < high:
        raise DataError("All pixels have the same value.", "Save images with something on them.")
    findings.notes.append(f"Pixel values from {low:g} to {high:g} were stretched to 0–255.")
    return low, high


def _targets(npz: Npz, task: Task | None, *, images: bool) -> tuple[Targets, tuple[str, ...]]:
    """What y means, and the names of the classes where the file gives them."""
    if "y" not in npz.members:
        if task not in (None, "unlabelled"):
            raise DataError(f"{npz.path.name!r} holds no labels 'y'.", "Save y too, or import it as unlabelled.")
        return Targets("", "unlabelled", text=False), ()
    member = npz.members["y"]
    few = MAX_CLASSES if images and member.dtype.kind in "biu" else FEW
    classes = () if task in ("unlabelled", "regression") else _strings(npz, "classes")
    return Targets(member.name, task, text=member.dtype.kind in "US", few=few), classes


def _blocks(
    npz: Npz, part: str, form: Form, targets: Targets, classes: Sequence[str], findings: Findings
) -> Iterator[tuple[NDArray[Any], NDArray[np.float64] | None, list[str]]]:
    """(samples, provisional targets, where) of the usable rows."""
    name = npz.members[part].name
    labels = _labels(npz, part.replace("x", "y")) if targets.task != "unlabelled" else None
    start = 0
    for block in npz.blocks(part):
        where = [f"{name}[{start + row}]" for row in range(len(block))]
        good = _finite(block, form, _features(npz, form), where, findings)
        y = None
        if labels is not None:
            given = labels[start : start + len(block)]
            y = targets.take(given)
            good &= _fitting(y, given, classes, where, findings)
        kept = np.flatnonzero(good)
        yield form.samples(block[kept]), None if y is None else y[kept], [where[row] for row in kept.tolist()]
        start += len(block)


def _finite(
    block: NDArray[Any], form: Form, features: Sequence[str], where: Sequence[str], findings: Findings
) -> NDArray[np.bool_]:
    """bool[k]: the rows without a NaN or an infinity; others are named."""
    good = np.zeros(len(block), dtype=bool)
    if form.kind == "table":
        place = {feature: column for column, feature in enumerate(features)}
        values = block.astype(np.float64)
        good[usable(where, features, values, lambda row, feature: values[row, place[feature]], findings)] = True
        return good
    good[:] = np.isfinite(block.reshape(len(block), -1)).all(1)
    for row in np.flatnonzero(~good).tolist():
        findings.skip(where[row], "It holds a pixel that is not a finite number.", "Fill it in, or remove the image.")
    return good


def _fitting(
    y: NDArray[np.float64], given: NDArray[Any], classes: Sequence[str], where: Sequence[str], findings: Findings
) -> NDArray[np.bool_]:
    """bool[k]: the rows whose label means something; others are named."""
    fits = np.isfinite(y)
    if classes:
        fits &= (y >= 0) & (y < len(classes)) & (y == np.round(y))
    for row in np.flatnonzero(~fits).tolist():
        allowed = f"a position in the list of {len(classes)} classes" if classes else "a label"
        findings.skip(
            where[row], f"Its label {given[row]} is not {allowed}.", "Correct the label, or remove the sample."
        )
    return fits


def _labels(npz: Npz, part: str) -> NDArray[Any]:
    """One array of targets, flat; bytes become text."""
    values = npz.whole(part).reshape(-1)
    return values.astype("U") if values.dtype.kind == "S" else values


def _words(npz: Npz, count: int) -> list[str]:
    """The labels of the first `count` samples as words."""
    if "y" not in npz.members:
        return [""] * count
    classes = dict(enumerate(_strings(npz, "classes")))
    return [str(classes.get(value, value)) for value in _labels(npz, "y")[:count].tolist()]


def _strings(npz: Npz, part: str) -> tuple[str, ...]:
    return tuple(str(value) for value in _labels(npz, part).tolist()) if part in npz.members else ()


def _features(npz: Npz, form: Form) -> tuple[str, ...]:
    """The names of the columns of a table."""
    if form.kind == "images":
        return ()
    names = _strings(npz, "features")
    if len(names) == form.row[0] and len(set(names)) == len(names):
        return names
    return tuple(f"feature {number + 1}" for number in range(form.row[0]))
