"""Where a comparison of versions comes from: the receipt of a surgery, or a job that measured them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from surgery import change, jobs, standing
from surgery.jobs import Job
from surgery.receipt import Receipt
from surgery.ui import comparison
from surgery.ui.messages import _
from surgery.workspace import Version, Workspace

LATENCY = "latency"


def receipt(ws: Workspace, before: Version, after: Version, dataset: str) -> Receipt | None:
    """What was measured of this very pair: by the surgery that led from one to the other, or by a job."""
    own = ws.receipt(after.id) if after.parent == before.id else None
    job = latest(ws, [before, after], dataset)
    measured = job.result.get("receipt") if job and job.state == "done" else None
    found = Receipt.from_json(measured) if measured else None
    if own and own["plan"].get("dataset") == dataset:
        found = _timed(Receipt.from_json(own), found)
    return standing.with_classes(ws, found, before.id, after.id) if found else None


def timed(receipt: Receipt) -> bool:
    """Whether latency was measured. Receipts of the samples have none: it depends on the machine."""
    return any(row["metric"] == LATENCY for row in receipt.table)


def _timed(own: Receipt, later: Receipt | None) -> Receipt:
    """A surgery's receipt, with the latency of a later measurement where it has none."""
    if later is None or timed(own):
        return own
    times = [row for row in later.table if row["metric"].startswith(LATENCY)]
    return replace(own, table=[*own.table, *times])


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


def side_by_side(rows: Sequence[change.Row], versions: Sequence[Version]) -> pd.DataFrame:
    """One row per metric, one column per version; every change is relative to the first version."""
    first, *others = labels = [f"v{version.number} {version.name}" for version in versions]  # as the job writes them
    names = {label: label.split()[0] for label in labels}
    tables = [{(row["metric"], row["scope"]): row for row in change.between(rows, first, other)} for other in others]
    shown = [key for key in tables[0] if all(key in table for table in tables)]
    own = [tables[0][key] for key in shown]
    return pd.DataFrame(
        {
            _("Metric"): [change.title(row) for row in own],
            names[first]: [change.value(row, "before") for row in own],
            **{
                names[other]: [
                    f"{change.value(table[key], 'after')}  {comparison.coloured(table[key])}" for key in shown
                ]
                for other, table in zip(others, tables, strict=True)
            },
            _("Measured on"): [change.measured_on(row) for row in own],
        }
    )
