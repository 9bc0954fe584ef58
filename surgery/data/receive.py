"""What a reader gives -> a dataset: the one place where imported samples are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from surgery.context import Context
from surgery.data import limits
from surgery.data.dataset import Dataset, Heading, Task
from surgery.data.findings import Findings
from surgery.data.images import changed_note
from surgery.data.labels import SameNames, renamed, settled
from surgery.data.portions import Opening, Portion, Reader
from surgery.data.targets import Targets
from surgery.data.texts import import_text
from surgery.data.writer import Writer
from surgery.errors import Cancelled, DataError

CODES = r"Characters that cannot be seen are written as their codes in names of classes, for instance \u202e."


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How a dataset is made of what a file holds; the meanings are those of `load.import_data`."""

    name: str
    task: Task | None = None
    same_names: SameNames = "keep"
    classes: Mapping[str, str] = field(default_factory=dict)
    context: int | None = None
    seed: int = 0


def receive(reader: Reader, path: Path, folder: Path, wishes: Wishes, ctx: Context) -> Dataset:
    """Write what `reader` gives of `path` into `folder`.

    Raises:
        DataError: nothing usable, or more than memory holds. DiskFullError: the samples do not fit on the disk.
    """
    opening = _opening(reader, ctx)
    if opening.kind == "text":
        return import_text(path, folder, name=wishes.name, context=wishes.context, ctx=ctx, seed=wishes.seed)
    limits.check(path.name, opening.count)
    findings = Findings()
    findings.add(opening.findings)
    decided = "classification" if opening.kind == "images" and opening.labels == "words" else wishes.task
    targets = Targets(
        opening.target,
        "unlabelled" if opening.labels == "none" else decided,
        text=opening.labels == "words",
        few=opening.few,
    )
    with Writer(folder, opening.row) as writer:
        if opening.exact:
            writer.reserve(opening.count)
        changed = 0
        for portion in ctx.track(_steps(reader), opening.stage, total=opening.steps):
            if portion is not None:
                changed += portion.changed
                _add(writer, targets, portion, findings)
        if changed:
            findings.notes.append(changed_note(changed, opening))
        return _finish(writer, targets, opening, findings, wishes)


def _opening(reader: Reader, ctx: Context) -> Opening:
    """What comes first, after signs of life."""
    for given in reader:
        if isinstance(given, Opening):
            return given
        if ctx.cancelled():
            raise Cancelled("Cancelled while looking through the file.")
        ctx.report({"stage": "looking through the file", "done": 0, "total": None, "seconds": 0.0})
    raise DataError("The reader gave nothing.", "The log has the details.")


def _steps(reader: Reader) -> Iterator[Portion | None]:
    """Portions, each followed by None for each further step of the progress that it takes."""
    for given in reader:
        if isinstance(given, Portion):
            yield given
            for _ in range(given.steps - 1):
                yield None


def _add(writer: Writer, targets: Targets, portion: Portion, findings: Findings) -> None:
    findings.add(portion.findings)
    if len(portion.samples):
        provisional = targets.take(portion.words, portion.numbers)
        writer.add(portion.samples, provisional, portion.where, role=portion.role, findings=findings)


def _finish(writer: Writer, targets: Targets, opening: Opening, findings: Findings, wishes: Wishes) -> Dataset:
    decided, classes, final = targets.finish(writer.targets(), opening.named)
    if targets.coder is not None and targets.coder.changed:
        findings.notes.append(CODES)
    if decided == "classification":
        classes, final = settled(classes, final.astype(np.int64), wishes.same_names, findings)
        classes, final = renamed(classes, final, wishes.classes, findings)
    elif wishes.classes:
        raise DataError("There are no classes to rename.", "Leave the new names of classes out.")
    heading = Heading(
        name=wishes.name,
        kind=opening.kind,
        task=decided,
        classes=classes,
        features=opening.features,
        reading=opening.reading,
    )
    return writer.finish(heading, findings, targets=final, seed=wishes.seed)
