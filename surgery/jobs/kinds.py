"""The kinds of work there are: one row each, with its lane, its limits and the function that does it.

Long work (plans) and short work (imports, scans) have lanes of their own, so that a scan never waits for a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.context import Context
from surgery.errors import JobError, NotFoundError, PlanError
from surgery.jobs import candidates, fleet_work, masks, reception, work
from surgery.workspace import Workspace, files, queue
from surgery.workspace.rows import Job, Lane

HOUR = 3600.0
Task = Mapping[str, Any]


def unchanged(_ws: Workspace, _project: str, task: Task) -> dict[str, Any]:
    """The task as it was given."""
    return dict(task)


def little(_ws: Workspace, _task: Task) -> int:
    """Work that writes next to nothing."""
    return 0


@dataclass(frozen=True)
class Kind:
    """One kind of work.

    work: does it; returns the job's result, or None when a commit has finished the job already.
    prepare: checks the task at submission and completes it. disk: bytes of free disk it needs.
    limit: seconds it may run. then: the kind of job that goes on from its task, "" for none.
    """

    work: Callable[[Workspace, Job, Context], Mapping[str, Any] | None]
    lane: Lane = "short"
    limit: float = 2 * HOUR
    prepare: Callable[[Workspace, str, Task], dict[str, Any]] = unchanged
    disk: Callable[[Workspace, Task], int] = little
    then: str = ""

    def device(self, task: Task) -> str:
        """The device that a task asks for, "" = any."""
        return str(task.get("device") or task.get("plan", {}).get("device", ""))


def prepare_plan(ws: Workspace, project: str, task: Task) -> dict[str, Any]:
    """Check that all that a plan names exists, and note what is current: only then its result becomes current.

    Raises:
        PlanError: it is no plan, its parameters do not fit, or it names a version twice.
        NotFoundError: it names a version or dataset that is missing.
    """
    from surgery.plan import Plan

    plan = Plan.parse(work.text_of(task["plan"]))
    rows = [ws.version(version) for version in plan.inputs]
    if plan.operation == "share" and (strange := [row for row in rows if row.project != rows[0].project]):
        raise PlanError(
            f"Version {strange[0].number} {strange[0].name!r} belongs to another project.",
            "Bring its model into this project: a fleet's members are versions of one.",
        )
    if twice := [one for one in plan.inputs if plan.inputs.count(one) > 1]:
        row = ws.version(twice[0])
        raise PlanError(f"Version {row.number} {row.name!r} is named twice.", "Name each version once.")
    for dataset in (plan.dataset, *([plan.new] if plan.new else [])):
        ws.dataset_row(dataset)
    current = ws.project(project).current
    return {**task, "plan": plan.model_dump(mode="json"), "expected_current": current}


def prepare_take(ws: Workspace, project: str, task: Task) -> dict[str, Any]:
    """Check that the candidate is there, and note what is current: only then it becomes current.

    Raises:
        NotFoundError: there is no such job or candidate.
    """
    source = queue.get(ws.store, str(task["job"]))
    if int(task["candidate"]) not in [one["candidate"] for one in candidates.listing(source)]:
        raise NotFoundError(
            f"Job {source.title!r} has no candidate {task['candidate']}.", "Choose one that its table shows."
        )
    return {**task, "expected_current": ws.project(project).current, "device": source.task["plan"].get("device", "")}


def prepare_take_out(ws: Workspace, _project: str, task: Task) -> dict[str, Any]:
    """Check that the part is there.

    Raises:
        NotFoundError: the version does not have it.
    """
    version = ws.version(task["version"])
    if not 0 <= int(task["part"]) < len(ws.parts(version.id)):
        raise NotFoundError(f"Version {version.number} {version.name!r} has no part {task['part']}.", "")
    return dict(task)


def prepare_build_large(ws: Workspace, _project: str, task: Task) -> dict[str, Any]:
    """Check that the dataset is there and the sizes are sensible.

    Raises:
        NotFoundError: no such dataset. JobError: a size out of bounds.
    """
    ws.dataset_row(task["dataset"])
    for name, most in (("width", 4096), ("depth", 10), ("epochs", 1000)):
        if not 1 <= float(task[name]) <= most:
            raise JobError(f"{name} is {task[name]}; allowed is 1 to {most}.", "Choose another.")
    return dict(task)


def prepare_replay(ws: Workspace, _project: str, task: Task) -> dict[str, Any]:
    """Check that the fleet has somebody to watch, and that the streams are there.

    Raises:
        NotFoundError: no such fleet or dataset. JobError: no guest shares, no stream, or a share out of bounds.
    """
    fleet = ws.fleet(task["fleet"])
    for dataset in task["datasets"]:
        ws.dataset_row(dataset)
    if not task["datasets"]:
        raise JobError("No stream was named.", "Choose a dataset to replay.")
    if not fleet.sharing:
        raise JobError(f"Nobody shares in fleet {fleet.number} {fleet.name!r} now.", "Let a guest share again first.")
    if not 0 < float(task.get("share", 0.25)) <= 1:
        raise JobError(f"A share of {task['share']} of the inputs cannot be watched.", "Choose more than 0, at most 1.")
    return dict(task)


def disk_for_plan(ws: Workspace, task: Task) -> int:
    """Room for a result as large as the inputs, twice: staged and committed."""
    return 2 * sum(ws.version(version).bytes for version in task["plan"]["inputs"])


def disk_for_drift(ws: Workspace, task: Task) -> int:
    """Room for a dataset as large as the one that is changed."""
    return ws.dataset_row(task["dataset"]).bytes


def disk_for_join(ws: Workspace, task: Task) -> int:
    """Room for a copy of every dataset."""
    return sum(ws.dataset_row(id).bytes for id in task["datasets"])


def disk_for_import(_ws: Workspace, task: Task) -> int:
    """Room for a decoded copy of a file or folder."""
    source = Path(task["path"])
    return 4 * (files.size(source) if source.is_dir() else source.stat().st_size if source.exists() else 0)


KINDS: dict[str, Kind] = {
    "plan": Kind(work.plan, "long", 12 * HOUR, prepare_plan, disk_for_plan),
    "take": Kind(work.take, prepare=prepare_take),
    "take_out": Kind(work.take_out, prepare=prepare_take_out),
    "compare": Kind(work.compare),
    "scan": Kind(work.scan, then="projection"),
    "criticality": Kind(work.criticality),
    "must_keep": Kind(work.must_keep),
    "sensitivity": Kind(work.sensitivity, "long"),
    "slice_accuracy": Kind(masks.slice_accuracy),
    "score_comparison": Kind(masks.score_comparison),
    "projection": Kind(work.projection),
    "drift": Kind(work.drift, disk=disk_for_drift),
    "join": Kind(work.join, disk=disk_for_join),
    "import_model": Kind(work.import_model, disk=disk_for_import),
    "build_large": Kind(work.build_large, "long", 12 * HOUR, prepare_build_large),
    "import_data": Kind(work.import_data, disk=disk_for_import),
    "inspect_model": Kind(reception.inspect_model, disk=disk_for_import),
    "check_model": Kind(reception.check_model),
    "set_input": Kind(reception.set_input),
    "open_sample": Kind(reception.open_sample),
    "export": Kind(reception.export),
    "propose_shares": Kind(fleet_work.propose, "long", 12 * HOUR, prepare_plan),
    "replay": Kind(fleet_work.replay, prepare=prepare_replay),
    "export_fleet": Kind(fleet_work.export),
}


def kind_of(task: Task) -> Kind:
    """The kind of a task.

    Raises:
        JobError: there is no such kind.
    """
    name = task.get("kind")
    if name not in KINDS:
        raise JobError(f"There is no kind of job {name!r}; there are {', '.join(sorted(KINDS))}.", "")
    return KINDS[name]
