"""Put datasets together: all their samples in the roles they have, all their classes, those of one name as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surgery.context import Context
from surgery.data.dataset import Dataset, Heading
from surgery.data.findings import Findings
from surgery.data.writer import Writer
from surgery.errors import DataError
from surgery.matching import same_but_spelling

SIZE = 256  # samples at a time
ORDER = ("test", "val", "preserve", "train", "new", "unlabelled")  # what an earlier role has, a later one leaves out


def join(parts: Sequence[Dataset], folder: Path, ctx: Context | None = None, *, name: str) -> Dataset:
    """Write one dataset with the samples of several; classes in the order in which they first come.

    A sample that is in test in one of them and in train in another stays in test.

    Raises:
        DataError: they differ in kind, task, size or features, have no labels, or spell a class differently.
    """
    first = parts[0]
    for other in parts[1:]:
        if _form(other) != _form(first):
            raise DataError(
                f"{first.name!r} holds {_what(first)}, {other.name!r} holds {_what(other)}.",
                "Only datasets of one kind, task and size can be put together; import one of them anew at that size.",
            )
    if first.kind == "text":
        raise DataError(
            "Texts cannot be put together window by window.", "Put the files together, and import the text."
        )
    if first.task == "unlabelled":
        raise DataError("Datasets without labels cannot be put together.", "Import them with their labels.")
    classes = first.classes
    if first.task == "classification":
        classes = tuple(dict.fromkeys(label for part in parts for label in part.classes))
        require_one_spelling(parts)
    heading = Heading(name=name, kind=first.kind, task=first.task, classes=classes, features=first.features)
    findings = Findings()
    blocks = [
        (part, role, ids[start : start + SIZE])
        for role in ORDER
        for part in parts
        for ids in (part.ids(role),)
        for start in range(0, len(ids), SIZE)
    ]
    with Writer(folder, first.raw(first.preview(1)).shape[1:]) as writer:
        writer.reserve(sum(map(len, parts)))
        for part, role, ids in (ctx or Context()).track(blocks, "putting together"):
            targets = part.labels(ids)
            if first.task == "classification":
                targets = np.array([classes.index(label) for label in part.classes])[targets]
            sources = [f"{part.name}, sample {i}" for i in ids]
            writer.add(part.raw(ids), targets, sources, role=role, findings=findings)
        return writer.finish(heading, findings)


def require_one_spelling(parts: Sequence[Dataset]) -> None:
    """Refuse datasets that spell one class in two ways: it would become two classes.

    Raises:
        DataError: naming both spellings.
    """
    seen: tuple[str, ...] = ()
    for part in parts:
        for name, other in same_but_spelling(part.classes, seen).items():
            raise DataError(
                f"The class {name!r} of {part.name!r} and the class {other!r} of another dataset differ only in "
                "spelling; they would become two classes.",
                f"Give both one name first: surgery relabel DATASET '{name}={other}'.",
            )
        seen = (*seen, *part.classes)


def _form(data: Dataset) -> tuple[object, ...]:
    return data.kind, data.task, data.shape, data.features


def _what(data: Dataset) -> str:
    return f"{data.kind} of {' × '.join(map(str, data.shape))} for {data.task}"
