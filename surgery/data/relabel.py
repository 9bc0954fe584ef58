"""Rename the classes of a dataset, put classes together, or leave some out: a new dataset, the old one stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from surgery.context import Context
from surgery.data.dataset import Dataset, Heading
from surgery.data.findings import Findings
from surgery.data.labels import renamed, require_names
from surgery.data.splits import ROLES
from surgery.data.writer import Writer
from surgery.errors import DataError
from surgery.matching import some

SIZE = 256  # samples at a time


def check(data: Dataset, names: Mapping[str, str], without: Sequence[str]) -> None:
    """Refuse what cannot be renamed.

    Raises:
        DataError: there are no classes, no such class, or fewer than two would be left.
    """
    if data.task != "classification" or data.kind == "text":
        raise DataError(f"{data.name!r} has no classes to rename.", "Choose a labelled dataset of images or a table.")
    require_names(data.classes, names)
    if strange := [name for name in without if name not in data.classes]:
        raise DataError(f"There is no class {strange[0]!r} to leave out; there are {some(data.classes)}.", "Name one.")
    if len({names.get(name, name) for name in data.classes if name not in without}) < 2:
        raise DataError("Fewer than two classes would be left.", "Leave out fewer, or give classes different names.")


def relabel(
    data: Dataset,
    folder: Path,
    names: Mapping[str, str],
    ctx: Context | None = None,
    *,
    name: str,
    without: Sequence[str] = (),
) -> Dataset:
    """Write a dataset with the samples and roles of `data` under other class names.

    names: old class -> new class. without: classes whose samples are left out.

    Raises:
        DataError: see `check`.
    """
    check(data, names, without)
    findings = Findings(notes=list(data.notes), named=list(data.problems))
    labels = data.labels(np.arange(len(data)))
    classes, targets = renamed(data.classes, labels, names, findings)
    gone = np.isin(labels, [data.classes.index(one) for one in without])
    used = sorted(set(targets[~gone].tolist()))
    heading = Heading(
        name=name,
        kind=data.kind,
        task=data.task,
        classes=tuple(classes[one] for one in used),
        features=data.features,
        reading=data.reading,
    )
    roles = np.array([""] * len(data), dtype="U10")
    for role in ROLES:
        roles[data.ids(role)] = role
    kept = np.flatnonzero(~gone)
    if len(without):
        findings.notes.append(f"Left out: {len(data) - len(kept):,} samples of the classes {some(without)}.")
    with Writer(folder, data.raw(data.preview(1)).shape[1:]) as writer:
        writer.reserve(len(kept))
        for start in (ctx or Context()).track(range(0, len(kept), SIZE), "renaming classes"):
            ids = kept[start : start + SIZE]
            sources = data.sources(ids)
            writer.add(data.raw(ids), np.searchsorted(used, targets[ids]), sources, role=roles[ids].tolist())
        return writer.finish(heading, findings)
