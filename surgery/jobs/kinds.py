"""The kinds of work there are: one row each, with its lane, its limits and the function that does it.

Long work (plans), short work (scans, measurements) and imports have lanes of their own, so that a scan never waits for
a training, nor a file that somebody brings for either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.context import Context
from surgery.data.files import MAX_ENTRIES
from surgery.errors import JobError
from surgery.fields import quoted
from surgery.jobs import admission, fleet_work, forms, masks, reception, work
from surgery.workspace import Workspace
from surgery.workspace.rows import Job, Lane

HOUR = 3600.0
Task = Mapping[str, Any]


def unchanged(_ws: Workspace, _project: str, task: Task, _given: Any) -> dict[str, Any]:
    """The task as it was given."""
    return dict(task)


def little(_ws: Workspace, _task: Task) -> int:
    """Work that writes next to nothing."""
    return 0


@dataclass(frozen=True)
class Kind:
    """One kind of work.

    work: does it; returns the job's result, or None when a commit has finished the job already.
    form: the task's fields; None takes any. admit: checks what the task names, and completes it.
    disk: bytes of free disk it needs. limit: seconds it may run. then: the kind of job that goes on from its task, ""
    for none.
    """

    work: Callable[[Workspace, Job, Context], Mapping[str, Any] | None]
    lane: Lane = "short"
    limit: float = 2 * HOUR
    form: type[forms.Form] | None = None
    admit: Callable[[Workspace, str, Task, Any], dict[str, Any]] = unchanged
    disk: Callable[[Workspace, Task], int] = little
    then: str = ""

    def prepare(self, ws: Workspace, project: str, task: Task) -> dict[str, Any]:
        """The task as the catalogue will hold it, checked and completed.

        Raises:
            JobError: a field is missing, unknown or out of bounds.
            SurgeryError: what it names is not there, belongs to another project, or does not fit.
        """
        given = forms.plain(task)
        return self.admit(ws, project, given, None if self.form is None else forms.filled(self.form, given))

    def device(self, task: Task) -> str:
        """The device that a task asks for, "" = any."""
        return str(task.get("device") or task.get("plan", {}).get("device", ""))


def disk_for_plan(ws: Workspace, task: Task) -> int:
    """Room for a result as large as the inputs, twice: staged and committed."""
    return 2 * sum(ws.version(version).bytes for version in task["plan"]["inputs"])


def disk_for_copy(ws: Workspace, task: Task) -> int:
    """Room for a dataset as large as the one that is changed."""
    return ws.dataset_row(task["dataset"]).bytes


def disk_for_join(ws: Workspace, task: Task) -> int:
    """Room for a copy of every dataset."""
    return sum(ws.dataset_row(id).bytes for id in task["datasets"])


def disk_for_import(_ws: Workspace, task: Task) -> int:
    """Room for a decoded copy of a file or folder."""
    return 4 * _bytes_of(Path(task["path"]))


def _bytes_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what cannot be looked at counts nothing.

    Raises:
        JobError: more files than any import takes: the folder is not meant.
    """
    total = entries = 0
    for folder, _, names in os.walk(path):  # of a file: nothing
        entries += len(names) + 1
        if entries > MAX_ENTRIES:
            raise JobError(f"{str(path)!r} holds more than {MAX_ENTRIES:,} files.", "Name the folder of the data.")
        total += sum(_size(Path(folder, name)) for name in names)
    return total or _size(path)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _short(work: Any, form: type[forms.Form], admit: Any, **more: Any) -> Kind:
    return Kind(work, "short", form=form, admit=admit, **more)


def _import(work: Any, form: type[forms.Form], admit: Any, **more: Any) -> Kind:
    return Kind(work, "import", form=form, admit=admit, **more)


def _long(work: Any, form: type[forms.Form], admit: Any, limit: float = 12 * HOUR, **more: Any) -> Kind:
    return Kind(work, "long", limit, form=form, admit=admit, **more)


KINDS: dict[str, Kind] = {
    "plan": _long(work.plan, forms.OfPlan, admission.plan, disk=disk_for_plan),
    "take": _short(work.take, forms.OfTake, admission.take),
    "take_out": _short(work.take_out, forms.OfTakeOut, admission.take_out),
    "compare": _short(work.compare, forms.OfCompare, admission.compare),
    "scan": _short(work.scan, forms.OfScan, admission.scan, then="projection"),
    "criticality": _short(work.criticality, forms.OfScan, admission.attributed),
    "must_keep": _short(work.must_keep, forms.OfMustKeep, admission.must_keep),
    "sensitivity": _long(work.sensitivity, forms.OfSensitivity, admission.attributed, 2 * HOUR),
    "slice_accuracy": _short(masks.slice_accuracy, forms.OfSlices, admission.attributed),
    "score_comparison": _short(masks.score_comparison, forms.OfScan, admission.attributed),
    "projection": _short(work.projection, forms.OfScan, admission.projection),
    "drift": _short(work.drift, forms.OfDrift, admission.drift, disk=disk_for_copy),
    "join": _short(work.join, forms.OfJoin, admission.join, disk=disk_for_join),
    "relabel": _short(work.relabel, forms.OfRelabel, admission.relabel, disk=disk_for_copy),
    "import_model": _import(work.import_model, forms.OfModel, admission.import_model, disk=disk_for_import),
    "build_large": _long(work.build_large, forms.OfBuildLarge, admission.build_large),
    "import_data": _import(work.import_data, forms.OfData, admission.import_data, disk=disk_for_import),
    "inspect_model": _import(reception.inspect_model, forms.OfFile, admission.inspect_model, disk=disk_for_import),
    "check_model": _short(reception.check_model, forms.OfPair, admission.check_model),
    "set_input": _short(reception.set_input, forms.OfSetInput, admission.set_input),
    "open_sample": _import(reception.open_sample, forms.OfSample, admission.open_sample),
    "export": _short(reception.export, forms.OfExport, admission.export),
    "propose_shares": _long(fleet_work.propose, forms.OfPlan, admission.propose_shares),
    "replay": _short(fleet_work.replay, forms.OfReplay, admission.replay),
    "export_fleet": _short(fleet_work.export, forms.OfFleet, admission.export_fleet),
}


def kind_of(task: Task) -> Kind:
    """The kind of a task.

    Raises:
        JobError: it is no task, or there is no such kind.
    """
    if not isinstance(task, Mapping):
        raise JobError(f"A task is an object of names and values, not {type(task).__name__}.", 'Begin with "kind".')
    name = task.get("kind")
    if not isinstance(name, str) or name not in KINDS:
        raise JobError(f"There is no kind of job {quoted(name)}; there are {', '.join(sorted(KINDS))}.", "Choose one.")
    return KINDS[name]
