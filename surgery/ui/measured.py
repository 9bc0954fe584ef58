"""Where a comparison of versions comes from: the receipt of a surgery, or a job that measured them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from surgery import jobs
from surgery.jobs import Job
from surgery.receipt import Receipt
from surgery.ui import comparison
from surgery.ui.messages import _
from surgery.workspace import Version, Workspace


def receipt(ws: Workspace, before: Version, after: Version, dataset: str) -> Receipt | None:
    """What was measured of this very pair: by the surgery that led from one to the other, or by a job."""
    own = ws.receipt(after.id) if after.parent == before.id else None
    if own and own["plan"].get("dataset") == dataset:
        return Receipt.from_json(own)
    job = latest(ws, [before, after], dataset)
    found = job.result.get("receipt") if job and job.state == "done" else None
    return Receipt.from_json(found) if found else None


def latest(ws: Workspace, versions: Sequence[Version], dataset: str) -> Job | None:
    """The latest job that measures exactly these versions on this dataset, in this order."""
    ids = [version.id for version in versions]
    found = [
        job
        for job in jobs.jobs(ws, versions[0].project)
        if job.kind == "compare" and job.task["versions"] == ids and job.task["dataset"] == dataset
    ]
    return max(found, key=lambda job: job.number, default=None)


def submit(ws: Workspace, versions: Sequence[Version], dataset: str) -> Job:
    """Measure these versions side by side in the background."""
    names = ", ".join(f"v{version.number}" for version in versions)
    task = {"kind": "compare", "versions": [version.id for version in versions], "dataset": dataset}
    return jobs.submit(ws, task, project=versions[0].project, title=_("Measure {names}").format(names=names))


def side_by_side(rows: Sequence[dict[str, Any]], versions: Sequence[Version]) -> pd.DataFrame:
    """One row per measure, one column per version; every change is against the first version, and says so."""
    first, *others = labels = [f"v{version.number} {version.name}" for version in versions]  # as the job writes them
    found = {(row["model"], row["metric"], row["scope"]): row for row in rows}
    names = {label: label.split()[0] for label in labels}
    table: dict[str, list[str]] = {_("Measure"): [], **{name: [] for name in names.values()}, _("Measured on"): []}
    for (model, metric, scope), row in found.items():
        if model != first or metric == comparison.SPREAD:
            continue
        pairs = [_pair(row, found[other, metric, scope]) for other in others if (other, metric, scope) in found]
        if len(pairs) < len(others):
            continue
        table[_("Measure")].append(comparison.title(row))
        table[names[first]].append(comparison.value(_pair(row, row), "before"))
        for other, pair in zip(others, pairs, strict=True):
            changed = f":{comparison.colour(pair)}[{comparison.change(pair)}]"
            table[names[other]].append(f"{comparison.value(pair, 'after')}  {changed}")
        table[_("Measured on")].append(comparison.measured_on(row))
    return pd.DataFrame(table)


def _pair(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Two measured rows as one row of a before/after table."""
    old, new = before["value"], after["value"]
    change = None if old is None or new is None else new - old
    return {**after, "before": old, "after": new, "change": change}
