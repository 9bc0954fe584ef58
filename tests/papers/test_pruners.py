"""Literal replicas of the pruners that NeuSemSlice's restructuring combines with, per weight and in plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from surgery.analysis import pruners
from surgery.analysis.pruners import PRUNERS, importance
from surgery.data.dataset import Dataset
from surgery.network.model import Model
from tests import pico


@pytest.fixture
def model() -> Model:
    return pico.pico_model(pico.mlp((4, 8, 6, 3)), (4,))


def magnitudes(layer: nn.Linear) -> list[list[float]]:
    return [[abs(float(w)) for w in row] for row in layer.weight.detach().double()]


def test_lamp_is_each_square_over_those_at_least_as_large_in_its_layer(model: Model) -> None:
    found = importance("lamp", model)
    for name, neurons in (("0", range(8)), ("2", range(8, 14))):
        rows = magnitudes(model.module.get_submodule(name))
        every = [w for row in rows for w in row]
        for neuron, row in zip(neurons, rows, strict=True):
            score = sum(w**2 / sum(v**2 for v in every if v >= w) for w in row)
            assert float(found[neuron]) == pytest.approx(score, rel=1e-9)


def test_the_largest_weight_of_a_layer_has_lamp_one() -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    scores = pruners.lamp(weight)
    assert float(scores.flatten()[weight.abs().argmax()]) == pytest.approx(1.0)
    assert float(scores.max()) == pytest.approx(1.0)


def test_global_is_the_sum_of_magnitudes(model: Model) -> None:
    found = importance("global", model)
    for name, neurons in (("0", range(8)), ("2", range(8, 14))):
        for neuron, row in zip(neurons, magnitudes(model.module.get_submodule(name)), strict=True):
            assert float(found[neuron]) == pytest.approx(sum(row), rel=1e-6)


def test_coupled_neurons_count_together() -> None:
    model = pico.pico_model()
    found = importance("global", model)
    for u in range(6):
        own = model.module.stem.weight[u].abs().sum() + model.module.two.weight[u].abs().sum()
        assert float(found[u]) == pytest.approx(own.item(), rel=1e-5)
        assert found[u] == found[int(model.index.layers["two"].rows[u])]


def kept_by_density(model: Model, density: dict[str, float]) -> set[int]:
    """The paper's way round: each layer keeps round-down(density · n) + the rest of its largest neurons."""
    kept: set[int] = set()
    for name, first in (("0", 0), ("2", 8)):
        sizes = [sum(row) for row in magnitudes(model.module.get_submodule(name))]
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        count = math.floor(density[name] * len(sizes) + 1e-9)
        kept |= {first + i for i in order[:count]}
    return kept


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.3])
def test_erk_keeps_in_each_layer_the_share_of_its_sizes_over_their_product(model: Model, scale: float) -> None:
    raw = {"0": (4 + 8) / (4 * 8), "2": (8 + 6) / (8 * 6)}
    density = {name: min(1.0, scale * value) for name, value in raw.items()}
    found = importance("erk", model)
    ours = {u for u in range(14) if float(found[u]) >= 1 / scale - 1e-12}
    assert ours == kept_by_density(model, density)


def test_erk_counts_the_kernel() -> None:
    assert pruners.erk((16, 8, 3, 5)) == pytest.approx((16 + 8 + 3 + 5) / (16 * 8 * 3 * 5))


def test_uniform_plus_spares_the_first_convolution_and_a_fifth_of_the_last_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 10, 1), nn.Conv2d(10, 10, 1)
            self.head = nn.Linear(10, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.third(torch.relu(self.second(torch.relu(self.first(x))))))
            return self.head(x.mean((2, 3)))

    model = pico.pico_model(Net())
    found = importance("uniform+", model)
    layers = model.index.layers
    assert torch.isinf(found[layers["first"].rows]).all()
    assert torch.isfinite(found[layers["second"].rows]).all()
    spared = torch.isinf(found[layers["third"].rows])
    sizes = model.module.third.weight.abs().flatten(1).sum(1)
    assert set(spared.nonzero()[:, 0].tolist()) == set(sizes.topk(2).indices.tolist())
    by_size = found[layers["second"].rows][model.module.second.weight.abs().flatten(1).sum(1).argsort()]
    assert (by_size.diff() > 0).all(), "within a layer the largest leave last"


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("make", pico.NETWORKS)
def test_every_pruner_judges_every_network(pruner: pruners.Pruner, make: type[nn.Module]) -> None:
    model = pico.pico_model(make())
    found = importance(pruner, model)
    assert torch.isinf(found[model.index.fixed]).all()
    assert torch.equal(found, found[model.index.group])
    assert not torch.isnan(found).any()


def test_alike_takes_the_same_share_of_every_layer(pico_table: Dataset) -> None:
    model = pico.pico_model(pico.mlp((4, 8, 6, 3)), (4,))
    place = pruners.within_layers(model.index, importance("l2", model))
    for own in (range(8), range(8, 14)):
        ranks = sorted(float(place[u]) for u in own)
        assert ranks == pytest.approx([len(own) / r for r in range(len(own), 0, -1)])
