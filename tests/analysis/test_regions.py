from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from surgery.analysis.regions import Locator, Region, bounds, plane
from surgery.errors import ModelError
from surgery.network.model import Architecture, InputSpec, Model, Support
from surgery.network.trace import trace


def model_of(module: nn.Module, side: int = 16) -> Model:
    index, support = trace(module.eval(), torch.randn(1, 1, side, side))
    spec = InputSpec("image", (1, side, side), (0.0,), (1.0,))
    return Model(module, Architecture("test"), spec, "classification", ("a", "b"), index, support)


def spots(*places: tuple[int, int], side: int = 16) -> torch.Tensor:
    """A picture per place, black but for one pixel."""
    x = torch.zeros(len(places), 1, side, side)
    for picture, (row, column) in zip(x, places, strict=True):
        picture[0, row, column] = 1.0
    return x


def convolutions() -> nn.Module:
    """Two 3 × 3 convolutions of ones with pooling between: a receptive field of 2 + 2·… pixels around each place."""
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(),
        nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2),
    )  # fmt: skip
    with torch.no_grad():
        for part in module:
            if isinstance(part, nn.Conv2d):
                part.weight.fill_(1.0)
                part.bias.fill_(0.1)  # type: ignore[union-attr]
    return module


def test_a_map_is_largest_where_the_spot_is_and_the_box_is_the_receptive_field() -> None:
    found = Locator(model_of(convolutions())).regions(0, spots((3, 12), (10, 5)))
    assert [tuple(region.map.shape) for region in found] == [(8, 8), (8, 8)], "read after pooling"
    for region, (row, column) in zip(found, ((3, 12), (10, 5)), strict=True):
        top, left = divmod(int(region.map.argmax()), 8)
        assert region.box is not None
        assert (abs(top - row / 2) <= 1, abs(left - column / 2) <= 1) == (True, True)
        assert region.box[0] <= column < region.box[2]
        assert region.box[1] <= row < region.box[3]
        assert (region.box[2] - region.box[0], region.box[3] - region.box[1]) == (3, 3), "one convolution of 3 × 3"


def test_deeper_neurons_depend_on_more_of_the_picture() -> None:
    locator = Locator(model_of(convolutions()))
    (first,), (second,) = (locator.regions(neuron, spots((8, 8))) for neuron in (0, 2))
    assert first.box is not None and second.box is not None
    assert second.box[2] - second.box[0] > first.box[2] - first.box[0]


def test_a_flattened_map_has_its_places_and_a_hidden_unit_has_none() -> None:
    flat = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 64, 5), nn.ReLU(), nn.Linear(5, 2)
    )
    model = model_of(flat, side=8)
    (region,) = Locator(model).regions(1, torch.randn(1, 1, 8, 8))
    direct = flat[1](flat[0](torch.randn(1, 1, 8, 8)))[0, 1]
    assert region.map.shape == direct.shape
    assert Locator(model).regions(3, torch.randn(2, 1, 8, 8)) == []


def test_a_neuron_that_is_read_as_an_average_shows_what_was_averaged() -> None:
    module = convolutions()
    model = model_of(module)
    last = int(model.index.layers["5"].rows[0])  # type: ignore[union-attr]
    x = torch.rand(2, 1, 16, 16)
    found = Locator(model).regions(last, x)
    with torch.no_grad():
        maps = module[:6](x)[:, 0]  # type: ignore[index]
    assert torch.allclose(torch.stack([region.map for region in found]), maps, atol=1e-6)


def test_a_map_in_another_order_than_the_picture_is_not_drawn() -> None:
    assert Region(torch.eye(4), (0, 0, 4, 4)).lies_in_place((16, 16))
    corner = torch.zeros(4, 4)
    corner[3, 3] = 1.0
    assert not Region(corner, (0, 0, 4, 4)).lies_in_place((16, 16))
    assert Region(corner, None).lies_in_place((16, 16))


def test_planes_and_bounds() -> None:
    assert [plane(n, (16, 16)) for n in (64, 65, 1, 7)] == [(8, 8), (8, 8), None, None]
    assert plane(32, (8, 16)) == (4, 8)
    touched = torch.zeros(6, 8)
    touched[2, 3] = touched[4, 6] = 0.5
    assert bounds(touched) == (3, 2, 7, 5)
    assert bounds(torch.zeros(2, 2)) is None


def test_nothing_is_left_behind_on_the_model() -> None:
    model = model_of(convolutions())
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    Locator(model).regions(0, spots((3, 3)))
    assert all(p.grad is None for p in model.module.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert not any(part._forward_pre_hooks for part in model.module.modules())


def test_a_network_without_an_index_is_refused() -> None:
    with pytest.raises(ModelError, match="not numbered"):
        Locator(replace(model_of(convolutions()), index=None, support=Support("inspect", "x")))
