"""Whether a plan can run on what it names: judged without torch, before a job exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.data.fits import check
from surgery.errors import ModelError, PlanError, SelectionError
from surgery.jobs import fitting, named
from surgery.workspace import Workspace
from surgery.workspace.rows import Version

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.operations.base import Operation
    from surgery.plan import Plan


def judge(ws: Workspace, project: str, plan: Plan) -> None:
    """Refuse a plan that cannot run on what it names.

    Raises:
        NotFoundError: a version or dataset is not there, another project's, or in the trash.
        PlanError: a version is named twice, or the operation does not work on such models.
        DataError, MeasureError: a dataset does not fit. SelectionError: neurons that do not exist or cannot go.
    """
    operation = plan.build()
    rows = [named.version_of(ws, project, id) for id in plan.inputs]
    if twice := [row for row in rows if plan.inputs.count(row.id) > 1]:
        raise PlanError(f"Version {twice[0].number} {twice[0].name!r} is named twice.", "Name each version once.")
    data = data_of(ws, project, plan, operation)
    models = [named.facts_of(ws, row) for row in rows]
    try:
        operation.suit(models)
    except PlanError as error:
        raise PlanError(f"{operation.title} cannot run here: {error}", "Choose another version.") from error
    for model in models[1:] if operation.narrows else models:
        check(data, model.input)
    if data.new is not None:
        check(data.new, models[0].input)
    own = fitting.fitted(models[:1], data) if operation.narrows else data
    fitting.require_measurable(own)
    operation.examine_data(models, own.without_test())
    _require_neurons(operation, rows[0])


def data_of(ws: Workspace, project: str, plan: Plan, operation: Operation) -> Dataset:
    """The data of a plan, with its new data beside it and its must-keep cases in their role.

    Raises:
        NotFoundError: a dataset is not there. DataError: the new data is of another kind, or a case cannot be kept.
        PlanError: new data is missing.
    """
    named.dataset_of(ws, project, plan.dataset)
    data = ws.dataset(plan.dataset)
    if operation.learns and not plan.new:
        raise PlanError(f"{operation.title} learns from new data, and the plan names none.", "Name it in `new`.")
    if plan.new:
        named.dataset_of(ws, project, plan.new)
        data = data.with_new(ws.dataset(plan.new))
    return data.preserving(plan.preserve.ids) if plan.preserve.ids else data


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
