"""Datasets put together: every sample in its role, classes of one name as one, nothing of test in train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.data.join import join
from surgery.errors import DataError


def test_samples_roles_and_classes_are_those_of_both(pico_images: Dataset, pico_more: Dataset, tmp_path: Path) -> None:
    both = join([pico_images, pico_more], tmp_path / "both", name="both")
    assert both.classes == (*pico_images.classes, *pico_more.classes)
    for role in ("train", "val", "test"):
        expected = [part.raw(part.ids(role)) for part in (pico_images, pico_more)]
        assert np.array_equal(both.raw(both.ids(role)), np.concatenate(expected))
        labels = [both.classes[label] for label in both.labels(both.ids(role))]
        assert labels == [part.classes[i] for part in (pico_images, pico_more) for i in part.labels(part.ids(role))]
    assert both.source(0).startswith("drawings, sample ")


def test_classes_of_one_name_are_one(pico_images: Dataset, tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8), np.arange(60) % 2
    other = from_arrays(tmp_path / "x", x, y, classes=("square", "moon"), name="other", task="classification")
    both = join([pico_images, other], tmp_path / "both", name="both")
    assert both.classes == ("bars", "columns", "square", "moon")
    assert (both.labels(both.ids("train")) == 3).sum() == (other.labels(other.ids("train")) == 1).sum()


def test_what_is_in_test_of_one_is_not_in_train_of_the_other(pico_images: Dataset, tmp_path: Path) -> None:
    ids = pico_images.ids("test")
    leak = from_arrays(
        tmp_path / "x",
        np.concatenate([pico_images.raw(ids), pico_images.raw(pico_images.ids("train")) // 2]),
        np.concatenate([pico_images.labels(ids), pico_images.labels(pico_images.ids("train"))]),
        classes=pico_images.classes,
        name="leak",
        task="classification",
        roles=["train"] * (len(ids) + len(pico_images.ids("train"))),
    )
    both = join([pico_images, leak], tmp_path / "both", name="both")
    tests = {sample.tobytes() for sample in both.raw(both.ids("test"))}
    assert not tests & {sample.tobytes() for sample in both.raw(both.ids("train"))}
    assert any("left out" in note for note in both.notes)


def test_what_cannot_be_put_together_is_refused(
    pico_images: Dataset, pico_table: Dataset, pico_targets: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"'drawings' holds images of 1 × 8 × 8 .*, 'boxes' holds table of 4"):
        join([pico_images, pico_table], tmp_path / "x", name="x")
    with pytest.raises(DataError, match="for regression"):
        join([pico_table, pico_targets], tmp_path / "x", name="x")


def test_numbers_to_predict_are_put_together_too(pico_targets: Dataset, tmp_path: Path) -> None:
    both = join([pico_targets, pico_targets], tmp_path / "both", name="both")
    assert both.classes == pico_targets.classes
    assert len(both.ids("test")) == 2 * len(pico_targets.ids("test"))
