"""Compose: modules of several models make one classifier; what does not belong together is refused in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.compose import cut_out
from surgery.edit.evaluate import quality
from surgery.edit.heads import restored
from surgery.errors import DataError, SelectionError
from surgery.network import store
from surgery.network.cost import parameters
from surgery.network.model import InputSpec, Model
from surgery.network.part import Part
from surgery.operations.compose import Compose
from surgery.plan import Plan, run
from surgery.receipt_html import to_html
from surgery.tell import tell
from tests.patients import mlp, split_digits

CTX = Context(seed=0)


def digest(model: Model, name: str) -> str:
    return next(part.digest for part in model.parts if part.classes == (name,))


@pytest.fixture(scope="module")
def one() -> Model:
    return split_digits()


@pytest.fixture(scope="module")
def other(one: Model) -> Model:
    """The same network for pictures of twice the size and other gray values, whose square is called box."""
    parts = tuple(replace(p, name="box", classes=("box",)) if p.classes == ("square",) else p for p in one.parts)
    spec = InputSpec("image", (1, 16, 16), (0.4,), (0.6,))
    return replace(one, input=spec, classes=("bars", "columns", "box"), parts=parts)


@pytest.fixture(scope="module")
def boxes(pico_images: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The drawings, of which squares are called box, and others of a fourth class."""
    ids = np.arange(len(pico_images))
    folder = tmp_path_factory.mktemp("boxes") / "x"
    x, y = pico_images.raw(ids), pico_images.labels(ids)
    return from_arrays(folder, x, y, classes=("bars", "columns", "box"), name="boxes", task="classification")


def test_two_modules_of_two_models_make_a_classifier(one: Model, other: Model, boxes: Dataset, tmp_path: Path) -> None:
    plan = Compose(modules=(digest(one, "bars"), digest(other, "box")))
    outcome = plan.operate([one, other], boxes.without_test(), CTX)
    made = outcome.models[0]
    assert made.classes == ("bars", "box")
    assert made.input == other.input, "the larger one"
    table = outcome.tables["members"].set_index("class")
    assert table["adapted"].tolist() == [True, False]
    alike = plan.operate([one, replace(other, input=one.input)], boxes.without_test(), CTX).models[0]
    own = boxes.fitting(made.classes)
    assert quality(alike, own, own.ids("val"), CTX) > 0.9
    store.save(made, tmp_path / "made")
    x = torch.randn(2, *made.input.shape)
    with torch.no_grad():
        assert torch.equal(store.load(tmp_path / "made")(x), made(x))
    assert made.support.level == "full"


def test_without_calibration_scores_are_those_of_the_modules(one: Model, pico_images: Dataset) -> None:
    plan = Compose(modules=tuple(part.digest for part in one.parts), calibration=0)
    made = plan.operate([one], pico_images.without_test(), CTX).models[0]
    x = torch.randn(3, *one.input.shape)
    with torch.no_grad():
        wanted = torch.cat([restored(part.head)(cut_out(one, part)(x)) for part in one.parts], dim=1)
        torch.testing.assert_close(made(x), wanted, rtol=1e-4, atol=1e-5)


def test_calibration_never_answers_worse_on_its_own_samples(one: Model, pico_images: Dataset) -> None:
    data, digests = pico_images.without_test(), tuple(part.digest for part in one.parts)
    shouting = replace(one.parts[0], head={name: 9 * tensor for name, tensor in one.parts[0].head.items()}, proof={})
    loud = replace(one, parts=(shouting, *one.parts[1:]))
    plan = Compose(modules=(shouting.digest, *digests[1:]), calibration=1_000)
    plain = Compose(modules=(shouting.digest, *digests[1:]), calibration=0)
    scores = [quality(each.operate([loud], data, CTX).models[0], data, data.ids("val"), CTX) for each in (plain, plan)]
    assert scores[1] >= scores[0]


def test_what_modules_of_one_model_share_is_stored_once(one: Model, pico_images: Dataset) -> None:
    everything = torch.ones(one.index.n, dtype=torch.bool)
    parts = tuple(Part(part.name, everything, part.classes, head=part.head) for part in one.parts)
    plan = Compose(modules=tuple(part.digest for part in parts), calibration=0)
    made = plan.operate([replace(one, parts=parts)], pico_images.without_test(), CTX).models[0]
    heads = sum(tensor.numel() for part in parts for tensor in part.head.values())
    assert parameters(made) == parameters(one) + heads + 3 * 4


def test_the_receipt_of_other_classes_tells_the_new_quality_and_both_costs(
    one: Model, other: Model, boxes: Dataset
) -> None:
    plan = Plan(
        operation="compose",
        parameters={"modules": [digest(one, "bars"), digest(other, "box")]},
        inputs=("a", "b"),
        dataset="d",
    )
    _, receipt = run(plan, [one, other], boxes, CTX)
    accuracy, size = receipt.row("accuracy"), receipt.row("parameters")
    assert accuracy["before"] is None
    assert accuracy["n"] == len(boxes.fitting(("bars", "box")).ids("test"))
    assert size["before"] == parameters(one)
    assert tell(receipt).headline.startswith(f"Accuracy {100 * accuracy['after']:.1f}% · test, n = ")
    assert "Accuracy" in to_html(receipt, name="v3", parent="v1", data=boxes)


def test_what_does_not_belong_together_is_refused(one: Model, other: Model, pico_images: Dataset) -> None:
    bars, box = digest(one, "bars"), digest(other, "box")
    assert "takes one model or more" in Compose(modules=(bars, box)).check([])[0]
    assert "No version given has the module sha256:0" in Compose(modules=(bars, "sha256:0")).check([one])[0]
    again = replace(other, parts=tuple(replace(p, source="x", classes=("Bars",)) for p in other.parts))
    twice = Compose(modules=(bars, again.parts[0].digest))
    assert "Two modules answer for one class: 'bars' and 'Bars'" in twice.check([one, again])[0]
    table = replace(mlp(), parts=(replace(other.parts[2], source="y"),))
    strange = Compose(modules=(bars, table.parts[0].digest))
    assert "Modules take different input: image" in strange.check([one, table])[0]
    with pytest.raises(DataError, match="has no class 'box'; it has bars, columns, square"):
        Compose(modules=(bars, box)).on([one, other], pico_images, CTX)
    with pytest.raises(SelectionError, match="made anew"):
        Compose(modules=(bars, "sha256:0")).chosen([one])
