from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.errors import Cancelled
from surgery.measure import check_input
from surgery.measure.feeding import COMMON
from surgery.network.model import Architecture, InputSpec, Model, Support
from tests.patients import mlp


def threshold(mean: float, std: float, channels: int = 1) -> Model:
    """Says "bright" when the normalised mean exceeds 0: right only when pixels are centred at 128."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[-1.0] * channels, [1.0] * channels]))
        net[2].bias.zero_()
    spec = InputSpec("image", (channels, 8, 8), (mean,) * channels, (std,) * channels)
    support = Support("inspect")
    return Model(net.eval(), Architecture("test"), spec, "classification", ("dark", "bright"), None, support)


@pytest.fixture
def shades(tmp_path: Path) -> Dataset:
    """Dark and bright gray images on both sides of 128, all on the bright side of ImageNet's and MNIST's means."""
    y = np.arange(80) % 2
    generator = np.random.default_rng(0)
    x = np.where(y[:, None, None, None] == 1, 170, 125) + generator.integers(-1, 2, (80, 8, 8, 1))
    return from_arrays(
        tmp_path / "d", x.astype(np.uint8), y, classes=("dark", "bright"), name="shades", task="classification"
    )


def test_finds_the_normalisation_that_the_model_was_trained_with(shades: Dataset) -> None:
    rows = check_input(threshold(0.0, 1.0), shades, Context())
    quality = {row.name: row.quality for row in rows}
    assert (rows[0].name, rows[0].spec.mean, rows[0].spec.std) == ("as set", (0.0,), (1.0,))
    assert quality["as set"] == pytest.approx(0.5, abs=0.1)
    assert quality["half"] == 1.0
    assert quality["this dataset"] == 1.0
    assert quality["MNIST"] == pytest.approx(0.5, abs=0.1)
    assert {row.n for row in rows} == {len(shades.probe_ids())}


def test_every_normalisation_is_tried_once(shades: Dataset) -> None:
    rows = check_input(threshold(0.5, 0.5), shades, Context())
    names = [row.name for row in rows]
    assert "half" not in names, "it is the model's own"
    assert names == ["as set", "none", "ImageNet", "CIFAR-10", "MNIST", "0–255", "this dataset"]
    assert len({(row.spec.mean, row.spec.std) for row in rows}) == len(rows)


def test_values_fit_the_channels(shades: Dataset) -> None:
    rows = check_input(threshold(0.0, 1.0, channels=3), shades, Context())
    found = {row.name: (row.spec.mean, row.spec.std) for row in rows}
    assert found["ImageNet"] == COMMON["ImageNet"]
    assert found["MNIST"] == ((0.1307,) * 3, (0.3081,) * 3)
    gray = check_input(threshold(0.0, 1.0), shades, Context())
    imagenet = next(row.spec.mean for row in gray if row.name == "ImageNet")
    assert imagenet == (pytest.approx(0.449),)


class Fine(nn.Module):
    """Tells stripes of one pixel from plain gray; enlarged pictures have none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
        return torch.stack([torch.full_like(change, 0.6), change], 1)


def test_finds_the_size_that_the_model_was_trained_on(tmp_path: Path) -> None:
    y = np.arange(80) % 2
    x = np.random.default_rng(0).integers(0, 3, (80, 8, 8, 1), dtype=np.uint8)
    x[y == 1, :, ::2] += 250
    data = from_arrays(tmp_path / "d", x, y, classes=("plain", "stripes"), name="s", task="classification")
    net = nn.Sequential(nn.Conv2d(1, 1, 1), Fine())
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.zero_()
    spec = InputSpec("image", (1, 32, 32), (0.0,), (1.0,))
    model = Model(net, Architecture("t"), spec, "classification", data.classes, None, Support("inspect"))
    quality = {row.name: row.quality for row in check_input(model, data, Context())}
    assert quality["8 × 8 pixels"] == 1.0
    assert quality["as set"] == pytest.approx(0.5, abs=0.1)


class Insists(nn.Module):
    """Refuses other sizes with an assertion, as torchvision's vision transformers do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._assert(x.shape[-1] == 32, "wrong size")
        return x


@pytest.mark.parametrize("first", [nn.Identity(), Insists()])
def test_a_size_that_the_network_does_not_take_is_not_tried(shades: Dataset, first: nn.Module) -> None:
    model = threshold(0.0, 1.0)
    fixed = nn.Sequential(first, nn.Flatten(), nn.Linear(32 * 32, 2))
    model = replace(model, module=fixed, input=replace(model.input, shape=(1, 32, 32)))
    assert not any("pixels" in row.name for row in check_input(model, shades, Context()))


def test_tables_try_none_and_their_own_statistics(pico_table: Dataset, pico_targets: Dataset) -> None:
    classes = pico_table.classes
    assert [row.name for row in check_input(replace(mlp(), classes=classes), pico_table, Context())] == [
        "as set",
        "this dataset",
    ]
    model = replace(mlp((4, 6, 1)), task="regression", classes=("sum",))
    rows = check_input(model, pico_targets, Context())
    assert rows[0].quality <= 1.0
    assert len(rows) == 2


def test_unlabelled_data_says_nothing(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    data = from_arrays(tmp_path / "d", x, None, classes=(), name="plain", task="unlabelled")
    assert check_input(mlp(), data, Context()) == []


def test_cancel(shades: Dataset) -> None:
    with pytest.raises(Cancelled):
        check_input(threshold(0.0, 1.0), shades, Context(cancelled=lambda: True))
