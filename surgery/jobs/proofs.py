"""A few real samples for the proof of a new version: what its files give back is run on them before the job is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.errors import DataError
from surgery.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.data.dataset import Dataset
    from surgery.network.model import Model

SAMPLES = 2


def batch(model: Model, data: Dataset) -> Tensor | None:
    """float[≤ 2, *input.shape] of validation or training samples; None where the data holds none that the model takes.

    The test split is not touched.
    """
    open_data = data.without_test()
    try:
        ids = open_data.probe_ids(SAMPLES)
        return next((x for x, _, _ in open_data.batches(ids, model.input, size=SAMPLES)), None)
    except DataError:
        return None


def batch_in(ws: Workspace, project: str, model: Model) -> Tensor | None:
    """The same of the project's dataset."""
    dataset = ws.project(project).dataset
    return batch(model, ws.dataset(dataset)) if dataset else None
