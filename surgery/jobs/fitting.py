"""Whether models and data fit, told by what both say of themselves: without torch, before a job exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from surgery.data.fits import check
from surgery.errors import DataError, TraceError
from surgery.jobs import forms, named
from surgery.network.facts import Described, Facts
from surgery.workspace import Workspace

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset


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
    facts = named.facts_of(ws, named.version_of(ws, project, given.version))
    named.dataset_of(ws, project, given.dataset)
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


def require_measurable(data: Dataset) -> None:
    """Refuse data on which the result could not be measured: that comes last, after all the work.

    Raises:
        MeasureError: it has no samples to measure on.
    """
    from surgery.measure.measurement import opened

    opened(data)
    if data.new is not None:
        opened(data.new)
