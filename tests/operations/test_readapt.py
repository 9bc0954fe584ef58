"""Readapt: only what carries the trouble is trained, the old quality is guarded, bad new data is refused in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.blend import blend
from surgery.edit.damage import damaged
from surgery.edit.evaluate import quality
from surgery.edit.tune import tune
from surgery.errors import DataError, PlanError
from surgery.measure import compare, measure
from surgery.network.model import Model
from surgery.operations.base import Candidate, Outcome
from surgery.operations.readapt import Readapt
from surgery.plan import Plan, run
from tests import pico
from tests.conftest import DRAWINGS

CTX = Context(seed=0)


@pytest.fixture(scope="module")
def trained(pico_images: Dataset) -> Model:
    torch.manual_seed(3)
    return tune(pico.pico_model(), pico_images, Context(seed=1), epochs=300, rate=1e-2)


def drawings(folder: Path, change: Any, count: int = 90, classes: tuple[str, ...] = DRAWINGS) -> Dataset:
    generator = np.random.default_rng(5)
    clean = np.zeros((3, 8, 8, 1))
    clean[0, ::2], clean[1, :, ::2], clean[2, 2:6, 2:6] = 180, 180, 180
    y = np.arange(count) % 3
    x = change(clean[y] + generator.uniform(0, 60, (count, 8, 8, 1))).clip(0, 255).astype(np.uint8)
    return from_arrays(folder, x, y, classes=classes, name="later", task="classification")


@pytest.fixture(scope="module")
def pale(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return drawings(tmp_path_factory.mktemp("pale"), lambda x: 0.2 * x + 190)


def readapt(model: Model, data: Dataset, new: Dataset, **given: Any) -> Outcome:
    plan = Readapt(**{"share": 0.5, "epochs": 60, "rate": 5e-3, "tolerance": 10, **given})
    assert plan.check([model]) == []
    return plan.operate([model], data.without_test().with_new(new.without_test()), CTX)


def on(model: Model, data: Dataset) -> float:
    return quality(model, data, data.ids("val"), CTX)


def test_it_learns_the_new_and_keeps_the_old(trained: Model, pico_images: Dataset, pale: Dataset) -> None:
    outcome = readapt(trained, pico_images, pale, replay=0.5)
    made = outcome.models[0]
    assert on(trained, pale) < 0.7
    assert on(made, pale) > on(trained, pale) + 0.2
    assert on(made, pico_images) >= on(trained, pico_images) - 0.1 - 1e-9
    (facts,) = outcome.tables["trained"].to_dict("records")
    assert 0 < facts["parameters trained"] <= 0.5
    table = outcome.tables["classes"]
    assert table["class"].tolist() == list(DRAWINGS)
    assert {"old", "new", "old_after", "new_after"} <= set(table)


def test_what_is_not_chosen_stays_bit_for_bit(trained: Model, pico_images: Dataset, pale: Dataset) -> None:
    made = readapt(trained, pico_images, pale, share=0.2).models[0]
    old, new = trained.module.state_dict(), made.module.state_dict()
    moved = sum(int((old[name] != new[name]).sum()) for name, _ in trained.module.named_parameters())
    assert 0 < moved <= 0.2 * sum(p.numel() for p in trained.module.parameters())


def test_beyond_the_tolerance_it_goes_back(trained: Model, pico_images: Dataset, pale: Dataset) -> None:
    outcome = readapt(trained, pico_images, pale, tolerance=0, replay=0, rate=0.5)
    assert outcome.tables["trained"]["returns"].item() > 0
    assert on(outcome.models[0], pico_images) >= on(trained, pico_images)


def test_a_damaged_model_is_repaired_on_its_own_data(trained: Model, pico_images: Dataset) -> None:
    hurt = damaged(trained, 1.0, seed=1)
    assert on(hurt, pico_images) < 0.9
    made = readapt(hurt, pico_images, pico_images, tolerance=100).models[0]
    assert on(made, pico_images) > on(hurt, pico_images)


def test_the_receipt_tells_old_and_new(trained: Model, pico_images: Dataset, pale: Dataset) -> None:
    plan = Plan(operation="readapt", parameters={"epochs": 5}, inputs=("a",), dataset="d", new="n")
    _, receipt = run(plan, [trained], pico_images.with_new(pale), CTX)
    old, new = receipt.row("accuracy"), receipt.row("new accuracy")
    assert old is not None
    assert new is not None
    assert (new["split"], new["n"]) == ("test", len(pale.ids("test")))
    with pytest.raises(PlanError, match="learns from new data"):
        run(plan, [trained], pico_images, CTX)


def test_new_data_with_classes_that_the_model_does_not_know_is_not_measured_on(
    trained: Model, pico_images: Dataset, tmp_path: Path
) -> None:
    strange = drawings(tmp_path / "x", lambda x: x, classes=("bars", "columns", "moon", "star"))
    rows = compare(
        measure({"before": trained, "after": trained}, pico_images.with_new(strange), CTX), "before", "after"
    )
    assert not rows["metric"].str.startswith("new").any()


def test_unknown_classes_are_refused_with_their_names(trained: Model, pico_images: Dataset, tmp_path: Path) -> None:
    strange = drawings(tmp_path / "x", lambda x: x, classes=("bars", "columns", "moon", "star"))
    with pytest.raises(DataError, match=r"2 of the 4 classes of 'later' \(moon, star\) are no classes of the model"):
        readapt(trained, pico_images, strange)


def test_one_new_sample_is_too_few(trained: Model, pico_images: Dataset, tmp_path: Path) -> None:
    x = np.arange(9, dtype=np.uint8)[:, None, None, None] + np.zeros((9, 8, 8, 1), np.uint8)
    roles = ["train", *["val"] * 4, *["test"] * 4]
    y = np.arange(9) % 3
    one = from_arrays(tmp_path / "x", x, y, classes=DRAWINGS, name="one", task="classification", roles=roles)
    with pytest.raises(DataError, match="has 1 train samples: too few"):
        readapt(trained, pico_images, one)


def test_another_size_and_colour_of_pictures_is_taken(trained: Model, pico_images: Dataset, tmp_path: Path) -> None:
    larger = drawings(tmp_path / "x", lambda x: np.repeat(np.kron(0.2 * x + 190, np.ones((1, 2, 2, 1))), 3, axis=3))
    assert on(readapt(trained, pico_images, larger, replay=0.5).models[0], larger) > on(trained, larger)


def test_data_of_another_kind_or_without_labels_is_refused(pico_images: Dataset, pico_table: Dataset) -> None:
    with pytest.raises(DataError, match="has to be labelled and of the same kind"):
        pico_images.with_new(pico_table)
    with pytest.raises(DataError, match="has to be labelled"):
        pico_images.with_new(replace(pico_images, task="unlabelled"))


def test_it_works_for_a_number_to_predict(pico_targets: Dataset) -> None:
    model = replace(pico.pico_model(pico.mlp((4, 12, 1)), (4,)), task="regression", classes=("sum",))
    made = readapt(model, pico_targets, pico_targets, tolerance=100).models[0]
    assert on(made, pico_targets) > on(model, pico_targets)


def test_half_way_is_half_way_and_equal_numbers_stay(trained: Model) -> None:
    other = damaged(trained, 0.5, seed=1)
    half = blend(trained, other, 0.5)
    a, b, c = (m.module.state_dict() for m in (trained, other, half))
    assert torch.allclose(c["one.weight"], (a["one.weight"] + b["one.weight"]) / 2, atol=1e-6)
    assert torch.equal(c["one.bias"], a["one.bias"])
    assert all(torch.equal(c2, b[name]) for name, c2 in blend(trained, other, 1.0).module.state_dict().items())


def test_every_epoch_offers_its_state_and_the_plan_that_ends_there_gives_it(
    trained: Model, pico_images: Dataset, pale: Dataset
) -> None:
    offered: list[Candidate] = []
    data = pico_images.without_test().with_new(pale.without_test())
    plan = Readapt(share=0.5, epochs=24, rate=5e-3, tolerance=10)
    plan.operate([trained], data, replace(CTX, offer=offered.append))
    assert [one.number for one in offered] == list(range(1, len(offered) + 1))
    assert len(offered) >= 3
    ended = plan.model_copy(update={"candidate": 2}).operate([trained], data, CTX).models[0]
    for name, tensor in offered[1].model.module.state_dict().items():
        assert torch.equal(tensor, ended.module.state_dict()[name]), name
