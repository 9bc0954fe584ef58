"""Forget: the class is gone with its neurons, the others stay as good as allowed, bad wishes are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import predict, quality
from surgery.edit.tune import tune
from surgery.errors import DataError, TraceError
from surgery.network.model import Model
from surgery.operations.base import Outcome
from surgery.operations.forget import Forget
from surgery.plan import Plan, run
from tests import pico
from tests.patients import digits

CTX = Context(seed=0)


@pytest.fixture(scope="module")
def trained(pico_images: Dataset) -> Model:
    return tune(digits((8, 12, 16)), pico_images, Context(seed=1), epochs=100, rate=1e-2)


def forget(model: Model, data: Dataset, *classes: str, **given: Any) -> Outcome:
    plan = Forget(classes=classes, **given)
    assert plan.check([model]) == []
    return plan.operate([model], data.without_test(), CTX)


def test_the_class_goes_with_its_neurons_and_the_others_stay(trained: Model, pico_images: Dataset) -> None:
    outcome = forget(trained, pico_images, "columns", tolerance=5)
    made, rest = outcome.models[0], pico_images.fitting(("bars", "square"))
    assert made.classes == ("bars", "square")
    assert made.index.n < trained.index.n - 1, "more than the output"
    before = quality(trained, rest, rest.ids("val"), CTX, among=torch.tensor([0, 2]))
    assert quality(made, rest, rest.ids("val"), CTX) >= before - 0.05 - 1e-9
    assert len(outcome.kept) == made.index.n
    assert outcome.tables["others"]["class"].tolist() == ["bars", "square"]


def test_outputs_alone_leave_the_other_outputs_as_they_are(trained: Model, pico_images: Dataset) -> None:
    made = forget(trained, pico_images, "columns", neurons="none").models[0]
    ids = pico_images.ids("val")
    old, new = (predict(model, pico_images, ids, CTX) for model in (trained, made))
    torch.testing.assert_close(new, old[:, [0, 2]], rtol=1e-5, atol=1e-6)
    assert made.index.n == trained.index.n - 1


def test_what_goes_served_the_class_most(trained: Model, pico_images: Dataset) -> None:
    plan = Forget(classes=("columns",), tolerance=100)
    work = plan.on(trained, pico_images.without_test(), CTX)
    keep = work.keep()
    gone = ~keep & trained.index.point
    assert gone.any()
    assert (work.scores[gone].argmax(1) == 1).all()


def test_the_receipt_is_about_the_classes_that_stay(trained: Model, pico_images: Dataset) -> None:
    plan = Plan(operation="forget", parameters={"classes": ["columns"], "epochs": 1}, inputs=("a",), dataset="d")
    _, receipt = run(plan, [trained], pico_images, CTX)
    assert {row["scope"] for row in receipt.table if row["metric"] == "accuracy"} == {"overall", "bars", "square"}
    fewer = receipt.row("parameters")
    assert fewer is not None
    assert fewer["change"] < 0


def test_what_cannot_be_forgotten_is_refused(trained: Model, pico_images: Dataset) -> None:
    assert "does not know moon; it knows bars" in Forget(classes=("moon",)).check([trained])[0]
    assert "At least two classes must stay" in Forget(classes=("bars", "columns")).check([trained])[0]
    with pytest.raises(TraceError, match="At least two classes must stay"):
        Forget(classes=("bars", "columns")).operate([trained], pico_images.without_test(), CTX)
    number = replace(pico.pico_model(), task="regression")
    assert "not one neuron per class" in Forget(classes=("bars",)).check([number])[0]
    other = replace(trained, classes=("a", "b", "c"))
    with pytest.raises(DataError, match="does not have the model's classes by name"):
        Forget(classes=("a",)).operate([other], pico_images.without_test(), CTX)
