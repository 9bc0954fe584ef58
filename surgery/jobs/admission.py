"""What is checked before a job exists: that everything a task names is there, is of its project and fits.

One function per kind of work, each given the task as its form reads it. All of this is told by the catalogue and by
descriptions, so no page needs torch for it; what only the weights can tell is checked by the worker before it trains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.data.fits import check
from surgery.errors import DataError, JobError, ModelError, NotFoundError, PlanError, SelectionError, TraceError
from surgery.jobs import candidates, forms
from surgery.network.facts import Described, Facts
from surgery.workspace import Workspace, queue
from surgery.workspace.rows import DatasetRow, Fleet, Job, Version
from surgery.workspace.store import clean_name

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.operations.base import Operation
    from surgery.plan import Plan

Task = Mapping[str, Any]
Ready = dict[str, Any]


# What a task may name


def version_of(ws: Workspace, project: str, id: str) -> Version:
    """A version that a job of the project may work on.

    Raises:
        NotFoundError: it does not exist, is another project's, or lies in the trash.
    """
    row = ws.version(id)
    if row.project != project:
        raise NotFoundError(
            f"Version {row.number} {row.name!r} belongs to another project.",
            "Choose a version of this project, or import that model into it.",
        )
    if row.state != "ready":
        raise NotFoundError(f"Version {row.number} {row.name!r} is in the trash.", "Restore it, or choose another.")
    return row


def dataset_of(ws: Workspace, project: str, id: str) -> DatasetRow:
    """A dataset that a job of the project may read.

    Raises:
        NotFoundError: it does not exist, or is another project's.
    """
    row = ws.dataset_row(id)
    if row.project != project:
        raise NotFoundError(
            f"The dataset {row.name!r} belongs to another project.",
            "Choose a dataset of this project, or import it into this one.",
        )
    return row


def fleet_of(ws: Workspace, project: str, id: str) -> Fleet:
    """A fleet that a job of the project may work on.

    Raises:
        NotFoundError: it does not exist, is another project's, or lies in the trash.
    """
    row = ws.fleet(id)
    if row.project != project:
        raise NotFoundError(f"Fleet {row.number} {row.name!r} belongs to another project.", "Choose one of this one.")
    if row.state != "ready":
        raise NotFoundError(f"Fleet {row.number} {row.name!r} is in the trash.", "Restore it, or choose another.")
    return row


def job_of(ws: Workspace, project: str, id: str) -> Job:
    """A job of the project, as the source of another.

    Raises:
        NotFoundError: it does not exist, or is another project's.
    """
    row = queue.get(ws.store, id)
    if row.project != project:
        raise NotFoundError(f"Job {row.title!r} belongs to another project.", "Choose a job of this project.")
    return row


def facts_of(ws: Workspace, version: Version) -> Facts:
    """What the description of a version tells.

    Raises:
        ModelFileError: it is missing or damaged.
    """
    return Facts.of(ws.inspect(version.id), f"version {version.number} {version.name!r}")


def path_of(text: str) -> Path:
    """A file or folder to import.

    Raises:
        NotFoundError: it is not there.
    """
    path = Path(text)
    try:
        found = path.exists()
    except (OSError, ValueError):  # longer than the system allows, or no path at all
        found = False
    if not found:
        raise NotFoundError(f"{text[:200]!r} does not exist.", "Check the path, or upload the file again.")
    return path


# Whether what it names fits


def fitted(models: Sequence[Described], data: Dataset) -> Dataset:
    """The data as all these models see it: of the classes that they know, of their kind, shape and task.

    Raises:
        DataError: another kind, shape or alphabet. MeasureError: another task, or other classes.
    """
    from surgery.measure.quality import meaning_of

    for model in models:
        data = data.fitting(model.classes)
        check(data, model.input)
        meaning_of(model, data)
    return data


def pair(ws: Workspace, project: str, given: forms.OfPair) -> tuple[Facts, Dataset]:
    """The version of a task, and its data as the version sees it.

    Raises:
        NotFoundError: one is not there. DataError, MeasureError: they do not fit.
    """
    facts = facts_of(ws, version_of(ws, project, given.version))
    dataset_of(ws, project, given.dataset)
    return facts, fitted([facts], ws.dataset(given.dataset))


def require_numbered(facts: Facts) -> None:
    """Refuse a network without a numbering.

    Raises:
        TraceError: with the reason.
    """
    if facts.support.level == "inspect":
        raise TraceError(
            f"The neurons of this network are not numbered: {facts.support.reason}.", "It can only be inspected."
        )


def require_labels(data: Dataset) -> None:
    """Refuse data without labels.

    Raises:
        DataError: naming it.
    """
    if data.task == "unlabelled":
        raise DataError(f"{data.name!r} has no labels.", "Choose a dataset with labels, or import it with them.")


# One function per kind of work


def plan(ws: Workspace, project: str, task: Task, given: forms.OfPlan) -> Ready:
    """Judge a plan, and note what is current: only then its result becomes current."""
    from surgery.plan import Plan

    parsed = Plan.parse(json.dumps(given.plan))
    judge(ws, project, parsed)
    named(given.name)
    return {**task, "plan": parsed.model_dump(mode="json"), "expected_current": ws.project(project).current}


def judge(ws: Workspace, project: str, plan: Plan) -> None:
    """Refuse a plan that cannot run on what it names.

    Raises:
        NotFoundError: a version or dataset is not there, another project's, or in the trash.
        PlanError: a version is named twice, or the operation does not work on such models.
        DataError, MeasureError: a dataset does not fit. SelectionError: neurons that do not exist or cannot go.
    """
    operation = plan.build()
    rows = [version_of(ws, project, id) for id in plan.inputs]
    if twice := [row for row in rows if plan.inputs.count(row.id) > 1]:
        raise PlanError(f"Version {twice[0].number} {twice[0].name!r} is named twice.", "Name each version once.")
    data = data_of(ws, project, plan, operation)
    models = [facts_of(ws, row) for row in rows]
    try:
        operation.suit(models)
    except PlanError as error:
        raise PlanError(f"{operation.title} cannot run here: {error}", "Choose another version.") from error
    for model in models[1:] if operation.narrows else models:
        check(data, model.input)
    own = fitted(models[:1], data) if operation.narrows else data
    _require_measurable(own)
    operation.examine_data(models, own.without_test())
    _require_neurons(operation, rows[0])


def data_of(ws: Workspace, project: str, plan: Plan, operation: Operation) -> Dataset:
    """The data of a plan, with its new data beside it and its must-keep cases in their role.

    Raises:
        NotFoundError: a dataset is not there. DataError: the new data is of another kind, or a case cannot be kept.
        PlanError: new data is missing, or named where nothing learns from it.
    """
    dataset_of(ws, project, plan.dataset)
    data = ws.dataset(plan.dataset)
    if operation.learns and not plan.new:
        raise PlanError(f"{operation.title} learns from new data, and the plan names none.", "Name it in `new`.")
    if plan.new:
        dataset_of(ws, project, plan.new)
        data = data.with_new(ws.dataset(plan.new))
    return data.preserving(plan.preserve.ids) if plan.preserve.ids else data


def _require_measurable(data: Dataset) -> None:
    """Refuse data on which the result could not be measured: that comes last, after all the work.

    Raises:
        MeasureError: it has no samples to measure on.
    """
    from surgery.measure.measurement import opened

    opened(data)
    if data.new is not None:
        opened(data.new)


def _require_neurons(operation: Operation, row: Version) -> None:
    """Refuse neurons that the version does not have, and a removal of none but fixed ones.

    Raises:
        SelectionError: naming the neuron.
    """
    from surgery.operations.base import selections

    for name, chosen in selections(operation).items():
        if chosen.ids and max(chosen.ids) >= row.neurons:
            raise SelectionError(
                f"Neuron {max(chosen.ids)} does not exist: this version has neurons 0 to {row.neurons - 1}.",
                "Make the selection on this version, or map it through its old ids.",
            )
        if name == operation.removes and not chosen.ids:
            raise SelectionError("No neuron is selected.", "Select at least one on the page Neurons.")
        if name == operation.removes and set(chosen.ids) <= fixed_neurons(row):
            raise SelectionError(
                f"None of the {len(chosen.ids)} selected neurons can be removed: the network needs every one of them.",
                "Select other neurons.",
            )


def fixed_neurons(row: Version) -> set[int]:
    """The neurons of a version that no surgery may remove: outputs, and what is normalised across neurons.

    Raises:
        ModelError: the numbering cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        fixed = load_file(row.folder / "index.safetensors")["fixed"]
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"The numbering of version {row.number} {row.name!r} cannot be read: {error}.", "Restore it from a backup."
        ) from error
    return {int(id) for id in fixed.nonzero()[0]}


def propose_shares(ws: Workspace, project: str, task: Task, given: forms.OfPlan) -> Ready:
    """A plan of the operation share alone."""
    if given.plan.get("operation") != "share":
        raise PlanError(f"{given.plan.get('operation')!r} proposes no shares.", "Give a plan of the operation share.")
    return plan(ws, project, task, given)


def take(ws: Workspace, project: str, task: Task, given: forms.OfTake) -> Ready:
    """A candidate that is there, of a plan whose inputs still are; note what is current."""
    from surgery.plan import Plan

    source = job_of(ws, project, given.job)
    if given.candidate not in [one["candidate"] for one in candidates.listing(source)]:
        raise NotFoundError(
            f"Job {source.title!r} has no candidate {given.candidate}.", "Choose one that its table shows."
        )
    parsed = Plan.parse(json.dumps(source.task.get("plan", {})))
    for id in parsed.inputs:
        version_of(ws, project, id)
    data_of(ws, project, parsed, parsed.build())
    named(given.name)
    return {**task, "expected_current": ws.project(project).current, "device": parsed.device}


def take_out(ws: Workspace, project: str, task: Task, given: forms.OfTakeOut) -> Ready:
    """A part that the version has."""
    version = version_of(ws, project, given.version)
    if given.part >= (count := len(ws.parts(version.id))):
        raise NotFoundError(
            f"Version {version.number} {version.name!r} has no part {given.part}.",
            f"Its parts are numbered from 0; there are {count}." if count else "Split it into modules first.",
        )
    named(given.name)
    return dict(task)


def compare(ws: Workspace, project: str, task: Task, given: forms.OfCompare) -> Ready:
    """Versions that all fit the dataset."""
    models = [facts_of(ws, version_of(ws, project, id)) for id in given.versions]
    dataset_of(ws, project, given.dataset)
    _require_measurable(fitted(models, ws.dataset(given.dataset)))
    return dict(task)


def scan(ws: Workspace, project: str, task: Task, given: forms.OfScan) -> Ready:
    """Data that the version takes, with samples of the role; other classes than the model's are fine."""
    facts = facts_of(ws, version_of(ws, project, given.version))
    require_numbered(facts)
    dataset_of(ws, project, given.dataset)
    data = ws.dataset(given.dataset).fitting(facts.classes)
    check(data, facts.input)
    roles = (given.params.role, *(["unlabelled"] if given.params.role == "train" else []))
    if not any(len(data.ids(role)) for role in roles):
        raise DataError(f"{data.name!r} has no samples in the role {roles[0]!r}.", "Choose another role.")
    return dict(task)


def projection(ws: Workspace, project: str, task: Task, given: forms.OfScan) -> Ready:
    """A scan that was made."""
    version_of(ws, project, given.version), dataset_of(ws, project, given.dataset)
    if not ws.has_scan(given.version, given.dataset, task["params"]):
        raise NotFoundError("The version has not been scanned on this dataset.", "Scan it first.")
    return dict(task)


def attributed(ws: Workspace, project: str, task: Task, given: forms.OfScan) -> Ready:
    """A scan of a version whose classes the dataset has: criticality, sensitivity and what builds on them."""
    pair(ws, project, given)
    return scan(ws, project, task, given)


def must_keep(ws: Workspace, project: str, task: Task, given: forms.OfMustKeep) -> Ready:
    """Labelled data with room for the cases, and some kind of case with a share."""
    _, data = pair(ws, project, given)
    require_labels(data)
    if sum(given.shares.values()) <= 0:
        raise SelectionError("No kind of case has a share.", "Give hard, typical or diverse cases a share above 0.")
    classes = len(data.classes) if data.task == "classification" and data.kind != "text" else 0
    if classes * given.least > given.size:
        raise SelectionError(
            f"{given.size} cases have no room for {given.least} of each of {classes} classes.",
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
    row = dataset_of(ws, project, given.dataset)
    named(given.name)
    if row.kind == "text" or (row.kind == "table" and given.change != "noise"):
        known = "Choose noise." if row.kind == "table" else "Import a later text instead."
        raise DataError(f"There is no drift {given.change!r} for {row.kind}.", known)
    if given.version is not None:
        facts = facts_of(ws, version_of(ws, project, given.version))
        if given.change in ("fgsm", "pgd"):
            fitted([facts], ws.dataset(row.id))
    elif given.change in ("fgsm", "pgd"):
        raise JobError(f"{given.change} attacks a model, and none is named.", "Name a version.")
    return dict(task)


def join(ws: Workspace, project: str, task: Task, given: forms.OfJoin) -> Ready:
    """Labelled datasets of one kind, task and shape."""
    rows = [dataset_of(ws, project, id) for id in given.datasets]
    first, *others = [ws.dataset(row.id) for row in rows]
    named(given.name)
    require_labels(first)
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


def import_model(_ws: Workspace, _project: str, task: Task, given: forms.OfModel) -> Ready:
    """A file that is there; where it does not describe itself, an input and classes that make sense together."""
    path_of(given.path)
    named(given.name)
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
    path_of(given.path)
    return dict(task)


def import_data(_ws: Workspace, _project: str, task: Task, given: forms.OfData) -> Ready:
    """A file or folder that is there."""
    path_of(given.path)
    named(given.name)
    return dict(task)


def build_large(ws: Workspace, project: str, task: Task, given: forms.OfBuildLarge) -> Ready:
    """A labelled table with training samples."""
    dataset_of(ws, project, given.dataset)
    data = ws.dataset(given.dataset)
    named(given.name)
    if data.kind != "table":
        raise DataError(f"{data.name!r} holds {data.kind}; an MLP is built for a table.", "Import a CSV or Parquet.")
    require_labels(data)
    if not len(data.ids("train")):
        raise DataError(f"{data.name!r} has no training samples.", "Import it so that a part is kept for training.")
    return dict(task)


def check_model(ws: Workspace, project: str, task: Task, given: forms.OfPair) -> Ready:
    """A version that fits the dataset."""
    pair(ws, project, given)
    return dict(task)


def set_input(ws: Workspace, project: str, task: Task, given: forms.OfSetInput) -> Ready:
    """An input of the version's own kind; the size of a table and the alphabet of a text stay."""
    facts = facts_of(ws, version_of(ws, project, given.version))
    named(given.name)
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
    facts = facts_of(ws, version_of(ws, project, given.version))
    if given.dataset is not None:
        dataset_of(ws, project, given.dataset)
    if given.format == "int8":
        if given.dataset is None:
            raise JobError("Eight bits are fitted to samples, and no dataset is named.", "Name a dataset.")
        data = fitted([facts], ws.dataset(given.dataset))
        require_labels(data)
        _require_measurable(data)
    return dict(task)


def replay(ws: Workspace, project: str, task: Task, given: forms.OfReplay) -> Ready:
    """A fleet in which somebody shares, and streams that its members take."""
    fleet = fleet_of(ws, project, given.fleet)
    if not fleet.sharing:
        raise JobError(f"Nobody shares in fleet {fleet.number} {fleet.name!r} now.", "Let a guest share again first.")
    first = facts_of(ws, version_of(ws, project, fleet.members[fleet.sharing[0]]))
    for id in given.datasets:
        dataset_of(ws, project, id)
        check(ws.dataset(id), first.input)
    return dict(task)


def export_fleet(ws: Workspace, project: str, task: Task, given: forms.OfFleet) -> Ready:
    """A fleet that is there."""
    fleet_of(ws, project, given.fleet)
    return dict(task)


def named(name: str | None) -> None:
    """Refuse a name that what comes of the job cannot have.

    Raises:
        WorkspaceError: saying why.
    """
    if name:
        clean_name(name, "result")
