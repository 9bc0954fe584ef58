"""What is checked before a job exists: that everything a task names is there, is of its project and fits.

One function per kind of work, each given the task as its form reads it. All of this is told by the catalogue and by
descriptions, so no page needs torch for it; what only the weights can tell is checked by the worker before it trains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from surgery.data.fits import check
from surgery.data.join import require_one_spelling
from surgery.errors import DataError, JobError, ModelError, NotFoundError, PlanError, SelectionError
from surgery.jobs import candidates, fitting, forms, named, plans
from surgery.workspace import Workspace
from surgery.workspace.store import clean_name

Task = Mapping[str, Any]
Ready = dict[str, Any]


def plan(ws: Workspace, project: str, task: Task, given: forms.OfPlan) -> Ready:
    """Judge a plan, and note what is current: only then its result becomes current."""
    from surgery.plan import Plan

    parsed = Plan.parse(json.dumps(given.plan))
    plans.judge(ws, project, parsed)
    require_name(given.name)
    return {**task, "plan": parsed.model_dump(mode="json"), "expected_current": ws.project(project).current}


def propose_shares(ws: Workspace, project: str, task: Task, given: forms.OfPlan) -> Ready:
    """A plan of the operation share alone."""
    if given.plan.get("operation") != "share":
        raise PlanError(f"{given.plan.get('operation')!r} proposes no shares.", "Give a plan of the operation share.")
    return plan(ws, project, task, given)


def take(ws: Workspace, project: str, task: Task, given: forms.OfTake) -> Ready:
    """A candidate that is there, of a plan whose inputs still are; note what is current."""
    from surgery.plan import Plan

    source = named.job_of(ws, project, given.job)
    if given.candidate not in [one["candidate"] for one in candidates.listing(source)]:
        raise NotFoundError(
            f"Job {source.title!r} has no candidate {given.candidate}.", "Choose one that its table shows."
        )
    parsed = Plan.parse(json.dumps(source.task.get("plan", {})))
    for id in parsed.inputs:
        named.version_of(ws, project, id)
    plans.data_of(ws, project, parsed, parsed.build())
    require_name(given.name)
    return {**task, "expected_current": ws.project(project).current, "device": parsed.device}


def take_out(ws: Workspace, project: str, task: Task, given: forms.OfTakeOut) -> Ready:
    """A part that the version has."""
    version = named.version_of(ws, project, given.version)
    if given.part >= (count := len(ws.parts(version.id))):
        raise NotFoundError(
            f"Version {version.number} {version.name!r} has no part {given.part}.",
            f"Its parts are numbered from 0; there are {count}." if count else "Split it into modules first.",
        )
    require_name(given.name)
    return dict(task)


def compare(ws: Workspace, project: str, task: Task, given: forms.OfCompare) -> Ready:
    """Versions that all fit the dataset."""
    models = [named.facts_of(ws, named.version_of(ws, project, id)) for id in given.versions]
    named.dataset_of(ws, project, given.dataset)
    fitting.require_measurable(fitting.fitted(models, ws.dataset(given.dataset)))
    return dict(task)


def scan(ws: Workspace, project: str, task: Task, given: forms.OfScan) -> Ready:
    """Data that the version takes, with samples of the role; other classes than the model's are fine."""
    facts = named.facts_of(ws, named.version_of(ws, project, given.version))
    fitting.require_numbered(facts)
    named.dataset_of(ws, project, given.dataset)
    data = ws.dataset(given.dataset).fitting(facts.classes)
    check(data, facts.input)
    roles = (given.params.role, *(["unlabelled"] if given.params.role == "train" else []))
    if not any(len(data.ids(role)) for role in roles):
        raise DataError(f"{data.name!r} has no samples in the role {roles[0]!r}.", "Choose another role.")
    return dict(task)


def projection(ws: Workspace, project: str, task: Task, given: forms.OfScan) -> Ready:
    """A scan that was made."""
    named.version_of(ws, project, given.version), named.dataset_of(ws, project, given.dataset)
    if not ws.has_scan(given.version, given.dataset, task["params"]):
        raise NotFoundError("The version has not been scanned on this dataset.", "Scan it first.")
    return dict(task)


def attributed(ws: Workspace, project: str, task: Task, given: forms.OfScan) -> Ready:
    """A scan of a version whose classes the dataset has: criticality, sensitivity and what builds on them."""
    fitting.pair(ws, project, given)
    return scan(ws, project, task, given)


def must_keep(ws: Workspace, project: str, task: Task, given: forms.OfMustKeep) -> Ready:
    """Labelled data with room for the cases, and some kind of case with a share."""
    _, data = fitting.pair(ws, project, given)
    fitting.require_labels(data)
    if sum(given.shares.values()) <= 0:
        raise SelectionError("No kind of case has a share.", "Give hard, typical or diverse cases a share above 0.")
    classes = len(data.classes) if data.task == "classification" and data.kind != "text" else 0
    before = next(iter(ws.must_keep(given.dataset)), None)
    pinned = len(before.pinned) if before else 0
    if classes * given.least > given.size or pinned > given.size:
        raise SelectionError(
            f"{given.size} cases have no room for {pinned} pinned ones and {given.least} of each of {classes} classes.",
            "Ask for more cases in all, or fewer of each class.",
        )
    if not len(data.without_test().ids("val")):
        raise DataError(
            f"{data.name!r} has no validation samples to draw must-keep cases from.",
            "Import it so that a part is kept for validation.",
        )
    return dict(task)


def drift(ws: Workspace, project: str, task: Task, given: forms.OfDrift) -> Ready:
    """A change that there is for this kind of data; an attack needs a model to attack."""
    row = named.dataset_of(ws, project, given.dataset)
    require_name(given.name)
    if row.kind == "text" or (row.kind == "table" and given.change != "noise"):
        known = "Choose noise." if row.kind == "table" else "Import a later text instead."
        raise DataError(f"There is no drift {given.change!r} for {row.kind}.", known)
    if given.version is not None:
        facts = named.facts_of(ws, named.version_of(ws, project, given.version))
        if given.change in ("fgsm", "pgd"):
            fitting.fitted([facts], ws.dataset(row.id))
    elif given.change in ("fgsm", "pgd"):
        raise JobError(f"{given.change} attacks a model, and none is named.", "Name a version.")
    return dict(task)


def join(ws: Workspace, project: str, task: Task, given: forms.OfJoin) -> Ready:
    """Labelled datasets of one kind, task and shape."""
    rows = [named.dataset_of(ws, project, id) for id in given.datasets]
    first, *others = [ws.dataset(row.id) for row in rows]
    require_name(given.name)
    fitting.require_labels(first)
    require_one_spelling([first, *others])
    if first.kind == "text":
        raise DataError("Texts cannot be put together window by window.", "Put the files together, and import that.")
    for other in others:
        if (other.kind, other.task, other.shape, other.features) != (
            first.kind, first.task, first.shape, first.features,
        ):  # fmt: skip
            raise DataError(
                f"{first.name!r} and {other.name!r} differ in kind, task, size or features.",
                "Only datasets of one form can be put together; import one of them anew.",
            )
    return dict(task)


def relabel(ws: Workspace, project: str, task: Task, given: forms.OfRelabel) -> Ready:
    """A dataset that has the classes."""
    from surgery.data import relabel

    named.dataset_of(ws, project, given.dataset)
    require_name(given.name)
    relabel.check(ws.dataset(given.dataset), given.classes, given.without)
    return dict(task)


def import_model(ws: Workspace, project: str, task: Task, given: forms.OfModel) -> Ready:
    """A file that is there; where it does not describe itself, an input and classes that make sense together."""
    named.path_of(given.path)
    require_name(given.name)
    if given.trained_on is not None and ws.project(project).dataset is None:
        raise JobError(
            "The project has no dataset that the model could have been trained on.",
            "Leave this out, and say it when the dataset is imported.",
        )
    if given.input is None:
        return dict(task)
    if given.architecture is None or given.classes is None:
        raise JobError("An input is given without an architecture or classes.", "Name both.")
    if len(set(given.classes)) < len(given.classes) or "" in given.classes:
        raise ModelError("A class has no name, or one name is given twice.", "Give every class a name of its own.")
    require_input(given.input)
    return dict(task)


def require_input(given: forms.InputForm) -> None:
    """Refuse an input whose numbers do not belong together.

    Raises:
        ModelError: naming them.
    """
    axes = {"image": 3, "table": 1, "text": 1}[given.kind]
    if len(given.shape) != axes:
        raise ModelError(
            f"An input of {given.kind} has {axes} numbers of shape, {len(given.shape)} are given.",
            "Give (channels, height, width), (features,) or (context,).",
        )
    wanted = 0 if given.kind == "text" else given.shape[0]
    for label, values in (("mean", given.mean), ("std", given.std)):
        if len(values) != wanted:
            raise ModelError(
                f"The input has {wanted} channels or features but {len(values)} values of {label}.",
                "Give one for each.",
            )


def inspect_model(_ws: Workspace, _project: str, task: Task, given: forms.OfFile) -> Ready:
    """A file that is there."""
    named.path_of(given.path)
    return dict(task)


def import_data(ws: Workspace, project: str, task: Task, given: forms.OfData) -> Ready:
    """A file or folder that is there, and perhaps an earlier table that it is read like."""
    named.path_of(given.path)
    require_name(given.name)
    if given.like is not None and (row := named.dataset_of(ws, project, given.like)).kind != "table":
        raise DataError(f"{row.name!r} is no table: nothing can be read like it.", "Name a table, or leave it out.")
    return dict(task)


def build_large(ws: Workspace, project: str, task: Task, given: forms.OfBuildLarge) -> Ready:
    """A labelled table with training samples."""
    named.dataset_of(ws, project, given.dataset)
    data = ws.dataset(given.dataset)
    require_name(given.name)
    if data.kind != "table":
        raise DataError(f"{data.name!r} holds {data.kind}; an MLP is built for a table.", "Import a CSV or Parquet.")
    fitting.require_labels(data)
    if not len(data.ids("train")):
        raise DataError(f"{data.name!r} has no training samples.", "Import it so that a part is kept for training.")
    return dict(task)


def check_model(ws: Workspace, project: str, task: Task, given: forms.OfPair) -> Ready:
    """A version that fits the dataset."""
    fitting.pair(ws, project, given)
    return dict(task)


def set_input(ws: Workspace, project: str, task: Task, given: forms.OfSetInput) -> Ready:
    """An input of the version's own kind; the size of a table and the alphabet of a text stay."""
    facts = named.facts_of(ws, named.version_of(ws, project, given.version))
    require_name(given.name)
    kind = facts.input.kind
    require_input(forms.InputForm.model_construct(kind=kind, shape=given.shape, mean=given.mean, std=given.std))
    fixed = 1 if kind == "image" else len(facts.input.shape)
    if tuple(given.shape[:fixed]) != facts.input.shape[:fixed]:
        raise ModelError(
            f"The model takes {kind} of {list(facts.input.shape)}, which cannot become {given.shape}.",
            "Change only height and width of images, and the normalization.",
        )
    return dict(task)


def open_sample(_ws: Workspace, _project: str, task: Task, given: forms.OfSample) -> Ready:
    """A sample that there is."""
    import sample_models

    sample_models.model_folder(given.sample)
    return dict(task)


def export(ws: Workspace, project: str, task: Task, given: forms.OfExport) -> Ready:
    """A version; for int8 also labelled data that it fits."""
    facts = named.facts_of(ws, named.version_of(ws, project, given.version))
    if given.dataset is not None:
        named.dataset_of(ws, project, given.dataset)
    if given.format == "int8":
        if given.dataset is None:
            raise JobError("Eight bits are fitted to samples, and no dataset is named.", "Name a dataset.")
        data = fitting.fitted([facts], ws.dataset(given.dataset))
        fitting.require_labels(data)
        fitting.require_measurable(data)
    return dict(task)


def replay(ws: Workspace, project: str, task: Task, given: forms.OfReplay) -> Ready:
    """A fleet in which somebody shares, and streams that its members take."""
    fleet = named.fleet_of(ws, project, given.fleet)
    if not fleet.sharing:
        raise JobError(f"Nobody shares in fleet {fleet.number} {fleet.name!r} now.", "Let a guest share again first.")
    first = named.facts_of(ws, named.version_of(ws, project, fleet.members[fleet.sharing[0]]))
    for id in given.datasets:
        named.dataset_of(ws, project, id)
        check(ws.dataset(id), first.input)
    return dict(task)


def export_fleet(ws: Workspace, project: str, task: Task, given: forms.OfFleet) -> Ready:
    """A fleet that is there."""
    named.fleet_of(ws, project, given.fleet)
    return dict(task)


def require_name(name: str | None) -> None:
    """Refuse a name that what comes of the job cannot have.

    Raises:
        WorkspaceError: saying why.
    """
    if name:
        clean_name(name, "result")
