"""Comparing the layers of two networks: what is refused, which forms are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.analysis.similarity import similarity
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.errors import Cancelled, DataError, SelectionError
from tests.patients import digits, fleet, mlp


def test_too_few_samples_are_refused(pico_many: Dataset) -> None:
    with pytest.raises(DataError, match="7 samples are too few to compare layers on"):
        similarity(digits(), digits(), pico_many, pico_many.ids("train")[:7], Context())


def test_inputs_that_never_change_are_refused(tmp_path: Path) -> None:
    x = np.full((60, 8, 8, 1), 90, dtype=np.uint8)
    x[30:] = np.arange(30, dtype=np.uint8)[:, None, None, None]  # these differ, and are not compared
    data = from_arrays(
        tmp_path / "same", x, np.arange(60) % 3, classes=tuple("abc"), name="gray", task="classification"
    )
    with pytest.raises(DataError, match="Nothing changes from one sample of 'gray' to the next"):
        similarity(digits(), digits((6, 6, 6)), data, np.arange(30), Context())


def test_what_cannot_be_compared_leaves_nothing_on_the_models(pico_many: Dataset) -> None:
    one, other = digits(), digits((6, 6, 6))
    with pytest.raises(SelectionError, match="There is no layer 'nowhere' to compare"):
        similarity(one, other, pico_many, pico_many.ids("val"), Context(), layers=(["stem"], ["nowhere"]))
    with pytest.raises(DataError):
        similarity(one, mlp(), pico_many, pico_many.ids("val"), Context())
    assert not any(part._forward_hooks for model in (one, other) for part in model.module.modules())


def test_profiles_need_classes(pico_targets: Dataset) -> None:
    model = mlp((4, 8, 1))
    with pytest.raises(DataError, match="has no classes, whose profiles"):
        similarity(model, model, pico_targets, pico_targets.ids("train"), Context(), metric="profile")


def test_networks_of_other_depth_and_form_are_compared(pico_table: Dataset) -> None:
    one, other = mlp(), mlp((4, 7, 6, 5, 3), seed=1)
    found = similarity(one, other, pico_table, pico_table.ids("train"), Context(), batch=20)
    assert found.value.shape == (2, 3)
    assert bool(torch.isfinite(found.low).all())
    assert bool((found.low <= found.value).all())
    assert found.samples == 60


def test_fewer_than_three_batches_have_no_bound(pico_many: Dataset) -> None:
    one, other, _ = fleet()
    found = similarity(one, other, pico_many, pico_many.ids("val"), Context())
    assert bool(torch.isnan(found.low).all())
    assert found.samples == len(pico_many.ids("val")), "one batch, smaller than usual"


def test_it_can_be_cancelled_and_leaves_nothing_on_the_models(pico_many: Dataset) -> None:
    one, other, _ = fleet()
    with pytest.raises(Cancelled):
        similarity(one, other, pico_many, pico_many.ids("train"), Context(cancelled=lambda: True))
    assert not any(part._forward_hooks for model in (one, other) for part in model.module.modules())
