"""Fine-tuning: never worse than the start on validation samples, at a rate and with variations that suit the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.edit import finetune
from surgery.edit.evaluate import quality
from surgery.edit.finetune import Best, Varied, best_rate, fine_tune, shift, variations
from surgery.edit.tune import TAUGHT, TEMPERATURE, tune
from surgery.errors import DivergedError
from surgery.network.model import Model
from tests.patients import digits


@pytest.fixture(scope="module")
def trained(pico_many: Dataset) -> Model:
    return tune(digits((8, 12, 16)), pico_many, Context(seed=1), epochs=8, rate=1e-2)


def hurt(model: Model, by: float) -> Model:
    """The model with noise on its weights."""
    import copy

    module = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight += by * weight.std().nan_to_num() * torch.randn(weight.shape, generator=generator)
    return replace(model, module=module)


def on_val(model: Model, data: Dataset) -> float:
    return quality(model, data, data.ids("val"), Context())


@pytest.mark.parametrize("rate", [None, 1e-3, 0.5])
def test_the_result_is_never_worse_than_the_start(trained: Model, pico_many: Dataset, rate: float | None) -> None:
    start = hurt(trained, 0.4)
    for model in (trained, start):
        tuned = fine_tune(model, pico_many, Context(), epochs=2, rate=rate, teacher=trained)
        assert on_val(tuned, pico_many) >= on_val(model, pico_many)


def test_it_restores_a_damaged_model_without_being_told_a_rate(trained: Model, pico_many: Dataset) -> None:
    start = hurt(trained, 0.8)
    tuned = fine_tune(start, pico_many, Context(), epochs=4, teacher=trained)
    assert on_val(start, pico_many) < 0.8 < on_val(tuned, pico_many)


def test_a_rate_that_destroys_the_model_leaves_it_as_it_was(trained: Model, pico_many: Dataset) -> None:
    said: list[str] = []
    ctx = Context(report=lambda event: said.append(str(event.get("log", ""))))
    tuned = fine_tune(trained, pico_many, ctx, epochs=1, rate=1.0)
    assert on_val(trained, pico_many) == 1.0
    for old, new in zip(trained.module.parameters(), tuned.module.parameters(), strict=True):
        assert torch.equal(old, new)
    assert "fine-tuning did not improve the model on validation samples; it stays as it was" in said


def test_the_same_seed_gives_the_same_weights(trained: Model, pico_many: Dataset) -> None:
    one, two = (fine_tune(hurt(trained, 0.5), pico_many, Context(seed=3), epochs=1, teacher=trained) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), two.module.parameters(), strict=True))


def test_the_rate_with_the_lowest_loss_is_taken() -> None:
    assert best_rate({1e-3: 2.0, 3e-4: 0.7, 1e-4: 0.9, 3e-5: float("nan")}.__getitem__, Context()) == 3e-4


def test_a_rate_at_which_training_diverges_is_not_taken_and_ends_nothing() -> None:
    def loss(rate: float) -> float:
        if rate > 3e-4:
            raise DivergedError("The loss became NaN while tuning.")
        return float("nan") if rate > 1e-4 else 1.0 + rate

    assert best_rate(loss, Context()) == 3e-5


def test_the_best_state_comes_back_and_training_stops_without_improvement() -> None:
    scores = iter([0.5, 0.7, 0.6, 0.6])
    module = torch.nn.Linear(1, 1)
    looks = Best(lambda _: next(scores), every=1, patience=2)
    looks.begin(module)
    for value in (1.0, 2.0, 3.0):
        torch.nn.init.constant_(module.weight, value)
        assert not looks.spent and looks.passes(module)
    assert looks.spent and (looks.before, looks.score) == (0.5, 0.7)
    assert float(looks.good["weight"]) == 1.0


def test_a_teacher_counts_as_the_paper_says(pico_images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of plain SGD, by hand, against the loss that `tune` follows."""
    model, teacher = digits((4, 4, 4)), digits((4, 6, 4))
    losses: list[float] = []
    ctx = Context(report=lambda event: losses.extend(event["point"].values()) if "point" in event else None)
    tune(model, pico_images, ctx, epochs=1, rate=1e-9, batch=1_000, teacher=teacher)
    x, y, _ = next(iter(pico_images.batches(pico_images.ids("train"), model.input, size=1_000, seed=0)))
    for part in model.module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.train()
    with torch.no_grad():
        out, soft = model.module(x), F.softmax(teacher.module.eval()(x) / TEMPERATURE, 1)
    taught = (soft * (soft.log() - F.log_softmax(out / TEMPERATURE, 1))).sum(1).mean() * TEMPERATURE**2
    model.module.eval()
    expected = (1 - TAUGHT) * F.cross_entropy(out, y) + TAUGHT * taught
    assert losses[0] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("axis", "mirrored"), [(1, True), (2, False)])
def test_images_are_mirrored_only_where_the_model_tolerates_it(axis: int, mirrored: bool, tmp_path: Path) -> None:
    """What is bright above or below stays so in a mirror; what is bright left or right does not."""
    y = np.arange(120) % 2
    x = np.random.default_rng(0).integers(0, 60, (120, 8, 8, 1), dtype=np.uint8)
    bright = np.moveaxis(x, axis, 1)
    bright[y == 0, :4], bright[y == 1, 4:] = 200, 200
    about: dict[str, Any] = {"classes": ("first", "second"), "name": "halves", "task": "classification"}
    halves = from_arrays(tmp_path / "halves", x, y, **about)
    model = replace(digits((4, 4, 4)), classes=("first", "second", "neither"))
    able = tune(model, halves, Context(), epochs=20, rate=1e-2)
    assert on_val(able, halves) == 1.0
    found = variations(able, halves, halves.ids("val"), Context())
    assert (isinstance(found, Varied) and found.mirror) is mirrored


def test_tables_and_samples_without_labels_are_not_varied(pico_table: Dataset) -> None:
    from tests.patients import mlp

    assert variations(mlp((4, 12, 3)), pico_table, pico_table.ids("val"), Context()) is None


def test_shift_moves_and_repeats_the_edge() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert shift(x, 1, 0)[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert shift(x, 0, -1)[0, 0].tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]
    assert torch.equal(shift(x, 0, 0), x)


def test_what_it_costs_counts_steps_looks_and_the_range_test(pico_many: Dataset) -> None:
    train, val = len(pico_many.ids("train")), len(pico_many.ids("val"))
    assert finetune.passes(pico_many, 0, rate=None) == 0
    given = finetune.passes(pico_many, 2, rate=1e-3)
    assert given == 2 * train * finetune.STEP + 8 * val
    assert finetune.passes(pico_many, 2, rate=None) == given + 4 * (4 * 64 * finetune.STEP + val)
