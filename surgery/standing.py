"""Where a project stands: its current version against its original. Home, Continue, the project list and the command
line tell this, never the newest receipt: what was undone, held back or trashed is not what the project has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from surgery.change import seeing
from surgery.errors import DamagedError, NotFoundError
from surgery.messages import _
from surgery.receipt import Receipt
from surgery.tell import Told, tell

if TYPE_CHECKING:
    from surgery.workspace import Project, Version, Workspace

_COMPARABLE = ("accuracy", "r2", "mse", "loss", "perplexity")  # the same samples give the same value at any time
_UNPAIRED = ("low", "high", "lost", "won")


@dataclass(frozen=True)
class Standing:
    """The current version of a project, the original that it descends from, and what changed between them."""

    current: Version
    original: Version
    told: Told | None  # None while the original itself is current


def standing(ws: Workspace, project: Project) -> Standing | None:
    """Tell the current version against its original; None for a project without a model."""
    versions = {version.id: version for version in ws.versions(project.id)}
    current = versions.get(project.current or "")
    if current is None:
        return None
    path = _path(versions, current)
    if len(path) == 1:
        return Standing(current, current, None)
    return Standing(current, path[0], tell(_against(ws, path)))


def said(ws: Workspace, project: Project) -> str:
    """Where a project stands in one line, "" before it has a model."""
    found = standing(ws, project)
    if found is None:
        return ""
    if found.told is None:
        return _("v{number} {name} is current: the original").format(
            number=found.current.number, name=found.current.name
        )
    return _("v{number} against v{original}: {line}").format(
        number=found.current.number, original=found.original.number, line=found.told.line
    )


def root(versions: Mapping[str, Version], version: Version) -> Version:
    """The oldest ancestor of a version that is still there."""
    return _path(versions, version)[0]


def receipt_of(ws: Workspace, version: Version) -> Receipt | None:
    """The receipt of a version, None for an imported one; one of release 0.1.0 gets the classes it did not note."""
    found = ws.receipt(version.id)
    return None if found is None else with_classes(ws, Receipt.from_json(found), version.parent, version.id)


def with_classes(ws: Workspace, receipt: Receipt, before: str | None, after: str) -> Receipt:
    """A receipt that notes the classes of both versions, as their files name them where it does not.

    Its rows say whether the model was trained on the data, as the project's settings have it now.
    """
    project = ws.project(ws.version(after).project)
    answer = project.settings.answer(receipt.plan.get("dataset"))
    receipt = replace(receipt, table=seeing(receipt.table, answer))
    if receipt.classes or before is None:
        return receipt
    old, new = _classes(ws, before), _classes(ws, after)
    return replace(receipt, classes={"before": old, "after": new}) if set(old) & set(new) else receipt


def removed_between(ws: Workspace, before: Version, after: Version) -> str:
    """Name the classes of one version that another does not have; "" where it has all."""
    classes = {"before": _classes(ws, before.id), "after": _classes(ws, after.id)}
    if not set(classes["before"]) & set(classes["after"]):
        return ""
    return tell(replace(_nothing(after), classes=classes)).removed


def _path(versions: Mapping[str, Version], version: Version) -> list[Version]:
    """From the oldest ancestor that is still there to the version."""
    path = [version]
    while (parent := path[0].parent) in versions:
        path.insert(0, versions[str(parent)])
    return path


def _against(ws: Workspace, path: Sequence[Version]) -> Receipt:
    """What is known of the last version against the first: the receipt between them, else what two receipts share."""
    first, last = path[0], path[-1]
    own, start = _read(ws, last), _read(ws, path[1])
    if own is not None and last.parent == first.id:
        return own
    classes = {"before": _classes(ws, first.id), "after": _classes(ws, last.id)}
    found = own or _nothing(last)
    return replace(
        found,
        classes=classes if set(classes["before"]) & set(classes["after"]) else {},
        cases={},
        table=[*(_bridged(start, own) if start and own else ()), *_sizes(first, last)],
    )


def _read(ws: Workspace, version: Version) -> Receipt | None:
    try:
        return receipt_of(ws, version)
    except DamagedError:
        return None


def _bridged(start: Receipt, end: Receipt) -> list[dict[str, Any]]:
    """Quality before the first surgery and after the last, where both were measured on the same samples.

    Whether the same predictions changed is not known then, so there is no interval.
    """
    if start.dataset["digest"] != end.dataset["digest"]:
        return []
    rows = []
    for row in end.table:
        old = _before(start, row, end.dataset["classes"]) if row["metric"] in _COMPARABLE else None
        if old is not None and row["after"] is not None:
            kept = {key: value for key, value in row.items() if key not in _UNPAIRED}
            rows.append({**kept, "before": old, "change": row["after"] - old})
    return rows


def _before(start: Receipt, row: Mapping[str, Any], classes: Sequence[str]) -> float | None:
    """The value before the first surgery on the samples of `row`; None where it was measured on others.

    Accuracy on samples of fewer classes follows from that of each class.
    """
    found = start.row(row["metric"], row["scope"])
    if found is not None and (found["split"], found["n"]) == (row["split"], row["n"]):
        before: float | None = found["before"]
        return before
    if row["metric"] != "accuracy" or row["scope"] != "overall":
        return None
    own = [one for name in classes if (one := start.row("accuracy", name)) and one["split"] == row["split"]]
    if sum(one["n"] for one in own) != row["n"] or any(one["before"] is None for one in own):
        return None
    return float(sum(one["n"] * one["before"] for one in own) / row["n"])


def _sizes(first: Version, last: Version) -> list[dict[str, Any]]:
    counted = (("parameters", "", first.parameters, last.parameters), ("bytes", "bytes", first.bytes, last.bytes))
    return [
        {"metric": metric, "scope": "overall", "before": before, "after": after, "change": after - before}
        | {"unit": unit, "better": "lower", "split": "", "n": None}
        for metric, unit, before, after in counted
    ]


def _nothing(version: Version) -> Receipt:
    """A receipt without measurements, of a version that has none."""
    flips = {"lost": [], "won": [], "lost_count": 0, "won_count": 0}
    return Receipt(version.operation, {}, {"digest": "", "classes": []}, [], flips, {}, {}, 0.0)


def _classes(ws: Workspace, version: str) -> list[str]:
    try:
        return list(ws.inspect(version)["classes"])
    except (NotFoundError, DamagedError):
        return []
