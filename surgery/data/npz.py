"""An .npz into a dataset: [n, f] is a table; [n, h, w], [n, h, w, c] and [n, c, h, w] are images.

Images that are not stored as bytes are brought to 0–255: 0–1 is multiplied by 255, 0–255 is rounded, any other range
is stretched, and a note says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from surgery.data.columns import FEW, is_missing, usable
from surgery.data.findings import Findings
from surgery.data.labels import MAX_CLASSES
from surgery.data.npzfile import Npz, Rows, texts
from surgery.data.pixels import MAX_PIXELS, to_png
from surgery.data.portions import Opening, Options, Portion, Reader
from surgery.data.splits import IN_ORDER, spread, uses
from surgery.data.tablefile import MAX_COLUMNS
from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.dataset import Kind

AT_ONCE = 1 << 20  # pixels that are brought to bytes at once
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
        bytes_ = np.empty(pixels.shape, np.uint8)
        flat, target = pixels.reshape(-1), bytes_.reshape(-1)
        low, high = self.span
        for start in range(0, len(flat), AT_ONCE):
            some = np.nan_to_num(flat[start : start + AT_ONCE].astype(np.float64))
            target[start : start + AT_ONCE] = np.clip(np.rint((some - low) * (255 / (high - low))), 0, 255)
        return bytes_


def read_npz(npz: Npz, options: Options) -> Reader:
    """Give the arrays of an .npz; without y they are unlabelled.

    Raises:
        DataError: x has an unknown shape, a task is asked for without y, or an array is damaged.
    """
    findings = npz.found
    form = _form(npz)
    if form.kind == "images" and npz.members["x"].dtype != np.uint8:
        low, high = np.inf, -np.inf
        for part in (part for part in PARTS if part in npz.members):
            for block in npz.blocks(part):
                low, high = _widened(low, high, block)
                yield None
        form = replace(form, span=_span(low, high, findings))
    found = uses(splits_of(npz), options.splits)
    parts = {part: found.get(PARTS[part], "deal") for part in PARTS if part in npz.members}
    parts = {part: role for part, role in parts.items() if role != "drop"}
    if not parts:
        raise DataError("All splits of the file are left out.", "Use at least one of them.")
    features, opening = _features(npz, form), _opening(npz, form, options, [*parts])
    yield replace(opening, features=features, findings=findings.drained())
    for part in sorted(parts, key=lambda part: IN_ORDER.index(parts[part])):
        for portion in _portions(npz, part, form, opening, findings):
            yield replace(portion, role="" if parts[part] == "deal" else parts[part], findings=findings.drained())


def splits_of(npz: Npz) -> dict[str, int]:
    """Samples of each split, by its name; {} where there is one array of samples."""
    found = {PARTS[part]: npz.members[part].shape[0] for part in reversed(PARTS) if part in npz.members}
    return found if len(found) > 1 else {}


def peek_npz(npz: Npz, limit: int) -> list[tuple[bytes | dict[str, object], str]]:
    """(PNG or row, label) of a few of the first samples, in turn from every label."""
    form = _form(npz)
    block = next(npz.blocks("x"), None)
    if block is None:
        return []
    if form.kind == "images" and block.dtype != np.uint8:
        form = replace(form, span=_span(*_widened(np.inf, -np.inf, block), Findings()))
    labels = _words(npz, len(block))
    features = _features(npz, form)
    shown = spread(np.unique(labels, return_inverse=True)[1], limit, 0, even=True)
    samples = form.samples(block[shown])
    rows = [to_png(one) if form.kind == "images" else dict(zip(features, one.tolist(), strict=True)) for one in samples]
    return [(row, labels[place]) for row, place in zip(rows, shown.tolist(), strict=True)]


def _form(npz: Npz) -> Form:
    """The form of x, by its shape."""
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
    if math.prod(row) > MAX_PIXELS:
        raise DataError(f"{member.name!r} holds images of {math.prod(row):,} values.", "Save smaller images.")
    return Form(row, channels_first)


def _widened(low: float, high: float, block: NDArray[Any]) -> tuple[float, float]:
    """The range of values with that of one more block."""
    finite = block[np.isfinite(block)]
    return (min(low, float(finite.min())), max(high, float(finite.max()))) if finite.size else (low, high)


def _span(low: float, high: float, findings: Findings) -> tuple[float, float]:
    """What becomes black and white."""
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and 128 <= high <= 255:
        return BYTE
    if not low < high:
        raise DataError("All pixels have the same value.", "Save images with something on them.")
    findings.notes.append(f"Pixel values from {low:g} to {high:g} were stretched to 0–255.")
    return low, high


def _opening(npz: Npz, form: Form, options: Options, parts: Sequence[str]) -> Opening:
    """What y means, and the names of the classes where the file gives them."""
    opening = Opening(
        kind=form.kind,
        row=form.row,
        count=sum(npz.members[part].shape[0] for part in parts),
        steps=sum(map(npz.count_blocks, parts)),
        stage=f"reading {npz.members['x'].name}",
    )
    if "y" not in npz.members:
        if options.task not in (None, "unlabelled"):
            raise DataError(f"{npz.path.name!r} holds no labels 'y'.", "Save y too, or import it as unlabelled.")
        return opening
    if options.task == "unlabelled":
        return opening
    member = npz.members["y"]
    return replace(
        opening,
        target=member.name,
        labels="words" if member.dtype.kind in "US" else "numbers",
        few=MAX_CLASSES if form.kind == "images" and member.dtype.kind in "biu" else FEW,
        named=() if options.task == "regression" else npz.words("classes"),
    )


def _portions(npz: Npz, part: str, form: Form, opening: Opening, findings: Findings) -> Iterator[Portion]:
    """The usable rows, block by block, each with its labels."""
    name, features = npz.members[part].name, _features(npz, form)
    start = 0
    with nullcontext() if opening.labels == "none" else npz.rows(part.replace("x", "y")) as labels:
        for block in npz.blocks(part):
            where = [f"{name}[{start + row}]" for row in range(len(block))]
            start += len(block)
            good = _finite(block, form, features, where, findings)
            given, y = _labels(labels, len(block), findings)
            if y is not None:
                good &= _fitting(y, given, opening, where, findings)
            kept = np.flatnonzero(good).tolist()
            yield Portion(
                samples=form.samples(block[kept]),
                where=[where[row] for row in kept],
                words=[str(given[row]).strip() for row in kept] if opening.labels == "words" else None,
                numbers=y[kept] if y is not None and opening.labels == "numbers" else None,
            )


def _labels(rows: Rows | None, count: int, findings: Findings) -> tuple[Sequence[Any], NDArray[np.float64] | None]:
    """The next labels as they stand, and as numbers: of texts 0, or NaN where there is none."""
    if rows is None:
        return [], None
    values = rows.take(count).reshape(-1)
    if values.dtype.kind not in "US":
        return values.tolist(), values.astype(np.float64)
    given = texts(values, findings)
    return given, np.array([np.nan if is_missing(value) else 0.0 for value in given])


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
    y: NDArray[np.float64], given: Sequence[Any], opening: Opening, where: Sequence[str], findings: Findings
) -> NDArray[np.bool_]:
    """bool[k]: the rows whose label means something; others are named."""
    fits, classes = np.isfinite(y), opening.named
    if classes:
        fits &= (y >= 0) & (y < len(classes)) & (y == np.round(y))
    for row in np.flatnonzero(~fits).tolist():
        allowed = f"a position in the list of {len(classes)} classes" if classes else "a label"
        findings.skip(
            where[row], f"Its label {given[row]} is not {allowed}.", "Correct the label, or remove the sample."
        )
    return fits


def _words(npz: Npz, count: int) -> list[str]:
    """The labels of the first `count` samples as words."""
    if "y" not in npz.members:
        return [""] * count
    classes = dict(enumerate(npz.words("classes")))
    with npz.rows("y") as rows:
        return [str(classes.get(value, value)) for value in texts(rows.take(count), Findings())]


def _features(npz: Npz, form: Form) -> tuple[str, ...]:
    """The names of the columns of a table."""
    if form.kind == "images":
        return ()
    names = npz.words("features")
    if len(names) == form.row[0] and len(set(names)) == len(names):
        return names
    return tuple(f"feature {number + 1}" for number in range(form.row[0]))
