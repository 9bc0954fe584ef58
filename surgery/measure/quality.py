"""How good answers are: a model's answers in the dataset's own terms, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from surgery.errors import DataError, MeasureError
from surgery.matching import mismatch

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model

Answers = NDArray[Any]


def run(
    model: Model,
    data: Dataset,
    ids: NDArray[np.int64],
    ctx: Context,
    stage: str = "measuring",
    *,
    known: Sequence[str] | None = None,
) -> Answers:
    """int64[n]: the class of the dataset that the model names for each sample; float32[n] for a regression.

    A model that knows more classes than the dataset may answer one of those: −1. known: the only classes of the
    dataset that come into question.

    Raises:
        MeasureError: model and dataset do not speak of the same classes or target.
    """
    from surgery.edit.evaluate import predict

    meaning = meaning_of(model, data)
    outputs = predict(model, data, ids, ctx, stage).numpy()
    if outputs.ndim != 2 or (model.task == "classification" and outputs.shape[1] != len(model.classes)):
        raise MeasureError(
            f"The model gives {list(outputs.shape[1:])} outputs per sample but names {len(model.classes)} classes.",
            "Import the model again with the right number of classes.",
        )
    if known is not None:
        allowed = [place for place, name in enumerate(data.classes) if name in known]
        outputs = np.where(np.isin(meaning, allowed), outputs, -np.inf)
    answers: Answers = outputs[:, 0] if model.task == "regression" else meaning[outputs.argmax(1)]
    return answers


def quality(task: str, answers: Answers, truth: Answers) -> float:
    """Accuracy as a fraction, or R² of a regression."""
    return float((answers == truth).mean()) if task == "classification" else r2(answers, truth)


def r2(answers: Answers, truth: Answers) -> float:
    """1 − squared error ÷ variance of the truth; 0 when the truth is constant and missed, 1 when it is met."""
    error = float(((answers.astype(float) - truth) ** 2).sum())
    spread = float(((truth.astype(float) - truth.mean()) ** 2).sum())
    return 1 - error / spread if spread > 0 else float(error == 0)


def mse(answers: Answers, truth: Answers) -> float:
    """Mean squared error, in the square of the target's unit."""
    return float(((answers.astype(float) - truth) ** 2).mean())


def meaning_of(model: Described, data: Dataset) -> NDArray[np.int64]:
    """int64[outputs]: the dataset's class that each output stands for, by name; −1 = none.

    Raises:
        MeasureError: another task, or classes that the model lacks.
    """
    from surgery.data.fits import check

    if model.input.kind == "text":
        check(data, model.input)
    if data.task == "unlabelled" or model.task == "regression":
        if data.task == "classification" and model.task == "regression":
            raise MeasureError(*_mismatch(model, data))
        return np.arange(len(model.classes))
    if data.task == "regression":
        raise MeasureError(*_mismatch(model, data))
    if not set(data.classes) <= set(model.classes):
        raise MeasureError(*mismatch(data.classes, model.classes, repr(data.name)))
    place = {name: number for number, name in enumerate(data.classes)}
    return np.array([place.get(name, -1) for name in model.classes], dtype=np.int64)


def class_names(model: Described, data: Dataset) -> list[str]:
    """A model's classes as the dataset names them; by its own names where the two do not agree."""
    try:
        meaning = meaning_of(model, data)
    except (DataError, MeasureError):
        return list(model.classes)
    if data.task != "classification":
        return list(model.classes)
    return [data.classes[k] if k >= 0 else own for k, own in zip(meaning, model.classes, strict=True)]


def _mismatch(model: Described, data: Dataset) -> tuple[str, str]:
    return (
        f"The model is made for {model.task}, the dataset {data.name!r} for {data.task}.",
        "Choose a dataset for the same task.",
    )
