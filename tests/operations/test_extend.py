"""Extend: new classes on what the old ones can spare, the old slice exactly inside, bad new data refused in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.data.join import join
from surgery.edit.evaluate import predict, quality
from surgery.edit.extract import extract
from surgery.edit.tune import tune
from surgery.errors import DataError, SelectionError
from surgery.measure import measure
from surgery.network.model import Model
from surgery.network.part import Part
from surgery.operations import capacity
from surgery.operations.base import Outcome
from surgery.operations.extend import Extend
from surgery.plan import Plan, run
from tests import pico
from tests.patients import digits

CTX = Context(seed=0)


@pytest.fixture(scope="module")
def trained(pico_images: Dataset) -> Model:
    return tune(digits((8, 12, 16)), pico_images, Context(seed=1), epochs=100, rate=1e-2)


def extend(model: Model, data: Dataset, new: Dataset, **given: Any) -> Outcome:
    plan = Extend(**{"epochs": 40, "rate": 5e-3, "healing": 5, "tolerance": 5, **given})
    assert plan.check([model]) == []
    return plan.operate([model], data.without_test().with_new(new.without_test()), CTX)


def on(model: Model, data: Dataset, among: Sequence[int] | None = None) -> float:
    places = None if among is None else torch.tensor(among)
    return quality(model, data, data.ids("val"), CTX, among=places)


@pytest.mark.parametrize("way", ["beside", "through"])
def test_it_learns_the_new_and_holds_the_old_exactly(
    trained: Model, pico_images: Dataset, pico_more: Dataset, way: str
) -> None:
    outcome = extend(trained, pico_images, pico_more, way=way, task="known")
    made, (part,) = outcome.models[0], outcome.parts
    assert made.classes == ("bars", "columns", "square", "cross", "frame")
    assert on(made, pico_more, among=[3, 4]) > 0.8
    old, _ = extract(made, part)
    assert old.classes == trained.classes
    assert on(old, pico_images) >= on(trained, pico_images) - 0.05 - 1e-9
    (facts,) = outcome.tables["slice"].to_dict("records")
    assert facts["outputs moved by"] == 0.0
    assert facts["free"] > 0.1
    assert outcome.kept.tolist() == [*range(trained.index.n), -1, -1]
    if way == "beside":
        logits = [predict(model, pico_images, pico_images.ids("val"), CTX)[:, :3] for model in (made, old)]
        assert (logits[0] - logits[1]).abs().max() <= 1e-5, "the old outputs stay, whoever else speaks"


def test_more_training_leaves_the_very_same_slice(trained: Model, pico_images: Dataset, pico_more: Dataset) -> None:
    short, long = (
        extract(outcome.models[0], outcome.parts[0])[0]
        for outcome in (extend(trained, pico_images, pico_more, epochs=epochs) for epochs in (1, 20))
    )
    for name, tensor in short.module.state_dict().items():
        assert torch.equal(tensor, long.module.state_dict()[name]), name


def test_task_unknown_puts_all_outputs_on_one_scale(trained: Model, pico_images: Dataset, pico_more: Dataset) -> None:
    known, unknown = (extend(trained, pico_images, pico_more, task=task).models[0] for task in ("known", "unknown"))
    counts = [len(data.ids("val")) for data in (pico_images, pico_more)]
    before, after = (np.average([on(m, pico_images), on(m, pico_more)], weights=counts) for m in (known, unknown))
    assert after >= before
    assert after > 0.5
    assert torch.equal(known.module.head.weight[:3], unknown.module.head.weight[:3]), "the old outputs stay"


def test_old_samples_can_be_mixed_in(trained: Model, pico_images: Dataset, pico_more: Dataset) -> None:
    outcome = extend(trained, pico_images, pico_more, replay=0.3)
    made = outcome.models[0]
    assert (on(made, pico_images) + on(made, pico_more)) / 2 > 0.8
    assert outcome.tables["slice"]["outputs moved by"].item() == 0.0


def test_several_extensions_in_a_row(trained: Model, pico_images: Dataset, pico_more: Dataset, tmp_path: Path) -> None:
    first = extend(trained, pico_images, pico_more).models[0]
    third = drawings(tmp_path / "third", ("dots", "corner"))
    with pytest.raises(DataError, match="no samples of cross, frame, which the model knows"):
        extend(first, pico_images, third)
    both = join([pico_images, pico_more], tmp_path / "both", name="both")
    outcome = extend(first, both, third, tolerance=20)
    made, (part,) = outcome.models[0], outcome.parts
    assert made.classes[-2:] == ("dots", "corner")
    assert part.classes == first.classes
    assert on(extract(made, part)[0], both) >= on(first, both) - 0.2 - 1e-9
    assert on(made, third, among=[5, 6]) > 0.6


def test_the_receipt_tells_both_modes(trained: Model, pico_images: Dataset, pico_more: Dataset) -> None:
    plan = Plan(operation="extend", parameters={"tolerance": 10}, inputs=("a",), dataset="d", new="n")
    outcome, receipt = run(plan, [trained], pico_images.with_new(pico_more), CTX)
    rows = {row["metric"]: row for row in receipt.table if row["scope"] == "overall"}
    assert rows["accuracy, task known"]["before"] == rows["accuracy"]["before"]
    test = pico_images.ids("test")
    slice_alone = quality(extract(outcome.models[0], outcome.parts[0])[0], pico_images, test, CTX)
    assert rows["accuracy, task known"]["after"] == pytest.approx(slice_alone)
    for metric in ("new accuracy", "new accuracy, task known"):
        assert rows[metric]["before"] is None
        assert rows[metric]["n"] == len(pico_more.ids("test"))


def test_new_data_with_as_many_other_classes_is_not_measured_on_by_position(
    trained: Model, pico_images: Dataset, tmp_path: Path
) -> None:
    others = drawings(tmp_path / "x", ("moon", "star", "sun"))
    made = extend(trained, pico_images, others, epochs=1).models[0]
    rows = measure({"before": trained, "after": made}, pico_images.with_new(others), CTX, latency=False).rows
    assert set(rows[rows["metric"] == "new accuracy"]["model"]) == {"after"}


def drawings(folder: Path, classes: tuple[str, ...], count: int = 60, **given: Any) -> Dataset:
    """Pictures with a texture of its own for each class: even, chequered, dark."""
    generator = np.random.default_rng(7)
    y = np.arange(count) % len(classes)
    x = generator.uniform(0, 60, (count, 8, 8, 1))
    x[y == 0] += 180
    x[y == 1] += 180 * (np.indices((8, 8)).sum(0) % 2)[:, :, None]
    return from_arrays(folder, x.astype(np.uint8), y, classes=classes, name="new", task="classification", **given)


def test_new_data_with_old_classes_only_is_refused(trained: Model, pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="knows all 3 classes of 'drawings' already") as refused:
        extend(trained, pico_images, pico_images)
    assert "readapt" in refused.value.fix


def test_one_new_sample_is_too_few(trained: Model, pico_images: Dataset, tmp_path: Path) -> None:
    one = drawings(tmp_path / "x", ("moon", "star"), 6, roles=["train", "train", "val", "val", "test", "train"])
    with pytest.raises(DataError, match="The new class 'moon' has 1 training and 1 validation samples"):
        extend(trained, pico_images, one)


def test_another_size_and_colour_of_pictures_is_taken(trained: Model, pico_images: Dataset, tmp_path: Path) -> None:
    small = drawings(tmp_path / "small", ("moon", "star"))
    ids = np.arange(len(small))
    x = np.repeat(np.kron(small.raw(ids), np.ones((1, 2, 2, 1))), 3, axis=3).astype(np.uint8)
    larger = from_arrays(
        tmp_path / "x", x, small.labels(ids), classes=small.classes, name="large", task="classification"
    )
    made = extend(trained, pico_images, larger, task="known").models[0]
    assert on(made, larger, among=[3, 4]) > 0.8


def test_without_new_data_or_old_labels_it_says_so(trained: Model, pico_images: Dataset, pico_more: Dataset) -> None:
    with pytest.raises(DataError, match="no new data"):
        Extend().operate([trained], pico_images.without_test(), CTX)
    unlabelled = replace(pico_images, task="unlabelled", new=pico_more)
    with pytest.raises(DataError, match="found on their training and validation samples"):
        Extend().operate([trained], unlabelled, CTX)


def test_a_network_for_numbers_cannot_learn_classes(pico_images: Dataset) -> None:
    assert "Only a classifier" in Extend().check([replace(pico.pico_model(), task="regression")])[0]


def test_a_theta_that_makes_every_neuron_critical_frees_none(
    trained: Model, pico_images: Dataset, pico_more: Dataset
) -> None:
    with pytest.raises(SelectionError, match="every neuron is critical for some class: nothing is free") as refused:
        extend(trained, pico_images, pico_more, choose="theta", theta=0.9999999)
    assert "smaller Θ" in refused.value.fix


def test_a_theta_that_makes_hardly_any_critical_costs_too_much(
    trained: Model, pico_images: Dataset, pico_more: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "quality", lambda model, *rest, **_: 1.0 if model is trained else 0.2)
    with pytest.raises(
        SelectionError, match=r"would be free, but without them .* falls from 1.000 to 0.200"
    ) as refused:
        extend(trained, pico_images, pico_more, choose="theta", theta=0.5)
    assert "larger Θ" in refused.value.fix


def test_a_network_without_anything_to_spare_says_so(
    trained: Model, pico_images: Dataset, pico_more: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "quality", lambda model, *rest, **_: 1.0 if model is trained else 0.0)
    with pytest.raises(SelectionError, match="nothing is free"):
        extend(trained, pico_images, pico_more)


def test_a_part_of_another_network_is_refused(trained: Model) -> None:
    with pytest.raises(SelectionError, match="belongs to another network: this one does not have 5 neurons"):
        extract(trained, Part("strange", torch.ones(5, dtype=torch.bool), ("bars",)))
    with pytest.raises(SelectionError, match="does not have the class 'moon'"):
        extract(trained, Part("strange", torch.ones(trained.index.n, dtype=torch.bool), ("moon",)))


def test_a_part_survives_json(trained: Model) -> None:
    keep = torch.arange(trained.index.n) % 2 == 0
    part = Part("even", keep, ("bars", "square"))
    again = Part.from_json(part.to_json())
    assert torch.equal(again.keep, keep)
    assert (again.name, again.classes) == (part.name, part.classes)
