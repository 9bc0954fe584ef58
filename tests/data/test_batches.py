"""Batches: what a model sees, against the plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.errors import DataError
from surgery.network.model import InputSpec

GRAY = InputSpec("image", (1, 8, 8), (0.4,), (0.3,))


@pytest.fixture
def colours(tmp_path: Path) -> Dataset:
    x = np.random.default_rng(5).integers(0, 256, (12, 6, 10, 3), dtype=np.uint8)
    return from_arrays(tmp_path / "d", x, np.arange(12) % 2, classes="ab", name="colours", task="classification")


def test_values_are_normalised_literally(pico_images: Dataset) -> None:
    x, y, ids = next(iter(pico_images.batches([9, 4, 7], GRAY)))
    plain = (torch.from_numpy(pico_images.raw([9, 4, 7])).permute(0, 3, 1, 2).float() / 255 - 0.4) / 0.3
    assert torch.equal(x, plain) and x.is_contiguous()
    assert y is not None and y.tolist() == pico_images.labels([9, 4, 7]).tolist() and y.dtype == torch.int64
    assert ids.tolist() == [9, 4, 7]


def test_batches_are_counted_and_cover_all(pico_images: Dataset) -> None:
    batches = pico_images.batches(range(60), GRAY, size=16)
    assert len(batches) == 4
    assert torch.cat([ids for _, _, ids in batches]).tolist() == list(range(60))


def test_a_seed_shuffles_repeatably(pico_images: Dataset) -> None:
    def order(seed: int) -> list[int]:
        return torch.cat([ids for _, _, ids in pico_images.batches(range(60), GRAY, size=7, seed=seed)]).tolist()

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(60))


def test_tensors_are_accepted_as_ids(pico_images: Dataset) -> None:
    _, y, ids = next(iter(pico_images.batches(torch.tensor([3, 1]), GRAY)))
    assert ids.tolist() == [3, 1]
    assert y is not None and np.array_equal(pico_images.labels(ids), y.numpy())


def test_rgb_becomes_gray_and_gray_rgb(colours: Dataset, pico_images: Dataset) -> None:
    x, _, _ = next(iter(colours.batches([0], InputSpec("image", (1, 6, 10), (0.0,), (1.0,)))))
    assert np.allclose(x[0, 0], colours.raw([0])[0] @ np.array([0.299, 0.587, 0.114]) / 255, atol=1e-6)
    x, _, _ = next(iter(pico_images.batches([0], InputSpec("image", (3, 8, 8), (0.1, 0.2, 0.3), (1.0, 1.0, 2.0)))))
    assert torch.allclose(x[:, 0] + 0.1, x[:, 2] * 2 + 0.3, atol=1e-6)


@pytest.mark.parametrize("size", [(3, 5), (12, 20), (12, 5)])
def test_images_are_resized(colours: Dataset, size: tuple[int, int]) -> None:
    x, _, _ = next(iter(colours.batches([2], InputSpec("image", (3, *size), (0.0,) * 3, (1.0,) * 3))))
    stored = torch.from_numpy(colours.raw([2])).permute(0, 3, 1, 2).float() / 255
    assert torch.allclose(x, functional.interpolate(stored, size, mode="bilinear", antialias=True), atol=1e-6)


def test_tables_and_targets(pico_targets: Dataset) -> None:
    spec = InputSpec("table", (4,), (1.0, 2.0, 3.0, 4.0), (2.0,) * 4)
    x, y, _ = next(iter(pico_targets.batches([1, 0], spec)))
    assert np.allclose(x, (pico_targets.raw([1, 0]) - [1, 2, 3, 4]) / 2)
    assert y is not None and y.dtype == torch.float32


def test_unlabelled_batches_have_no_targets(tmp_path: Path) -> None:
    data = from_arrays(tmp_path / "d", np.eye(9), None, classes=(), name="n", task="unlabelled")
    assert next(iter(data.batches([0], InputSpec("table", (9,), (0.0,) * 9, (1.0,) * 9))))[1] is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (InputSpec("table", (4,), (0.0,) * 4, (1.0,) * 4), "takes table input, 'drawings' holds images"),
        (InputSpec("image", (4, 8, 8), (0.0,) * 4, (1.0,) * 4), r"images of shape \(4, 8, 8\)"),
        (InputSpec("image", (3, 8, 8), (0.0,), (1.0,) * 3), "3 channels or features but 1 values of mean"),
        (InputSpec("image", (1, 8, 8), (0.0,), (0.0,)), "std of 0.0"),
    ],
)
def test_a_model_that_cannot_take_the_data(pico_images: Dataset, spec: InputSpec, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pico_images.batches([0], spec)


def test_other_columns_are_refused(pico_table: Dataset) -> None:
    with pytest.raises(DataError, match=r"takes \(5,\) features, 'boxes' has \(4,\): length, width"):
        pico_table.batches([0], InputSpec("table", (5,), (0.0,) * 5, (1.0,) * 5))


def test_closed_samples_cannot_be_batched(pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="closed"):
        pico_images.without_test().batches(pico_images.ids("test"), GRAY)
    with pytest.raises(DataError, match="batch of 0"):
        pico_images.batches([0], GRAY, size=0)
