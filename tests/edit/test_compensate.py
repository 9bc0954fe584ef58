"""Kept neurons take over: exactly where the removed ones can be predicted, better than means elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.compensate import compensate
from surgery.edit.effect import effects
from surgery.edit.inputs import inputs_of
from surgery.edit.shrink import shrink
from surgery.edit.size import Sizes
from surgery.network.certificate import relative, sample
from surgery.network.cost import macs, parameters
from surgery.network.model import Model
from tests import pico

CTX = Context(seed=0)


def given(data: Dataset, model: Model) -> torch.Tensor:
    return next(iter(data.batches(data.ids("train"), model.input)))[0]


def without(model: Model, *neurons: int) -> torch.Tensor:
    keep = torch.ones(model.index.n, dtype=torch.bool)
    keep[list(neurons)] = False
    return model.index.close(keep)


def state(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def test_a_twin_is_taken_over_by_its_twin(pico_table: Dataset) -> None:
    model = pico.pico_model(pico.mlp(), (4,))
    with torch.no_grad():
        model.module[0].weight[5] = model.module[0].weight[2]
        model.module[0].bias[5] = model.module[0].bias[2]
    x, before = given(pico_table, model), state(model)
    keep = without(model, 5)
    seen = inputs_of(model, pico_table, CTX)
    changed, means = compensate(model, keep, seen)
    small, _ = shrink(changed, keep, means)
    means_alone, _ = shrink(model, keep, {name: mean.float() for name, mean in seen.mean.items()})
    with torch.no_grad():
        assert relative(small(x), model(x)) < 2e-3, "but for the ridge, nothing is lost"
        assert relative(means_alone(x), model(x)) > 1e-2
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())


def of_both_ways(make: type[nn.Module], data: Dataset, seed: int) -> tuple[float, float]:
    """The squared error of the outputs when the others take over, and when means are left behind."""
    model = pico.pico_model(make(), seed=seed)
    keep = sample(model.index, 0.4, seed=seed)
    seen = inputs_of(model, data, CTX)
    changed, means = compensate(model, keep, seen)
    small, _ = shrink(changed, keep, means)
    means_alone, _ = shrink(model, keep, {name: mean.float() for name, mean in seen.mean.items()})
    x = given(data, model)
    with torch.no_grad():
        found = [float((one(x) - model(x)).square().mean()) for one in (small, means_alone)]
    return found[0], found[1]


@pytest.mark.parametrize("make", [make for make in pico.NETWORKS if make is not pico.Functional])
def test_taking_over_beats_leaving_means_on_average(make: type[nn.Module], pico_images: Dataset) -> None:
    pairs = [of_both_ways(make, pico_images, seed) for seed in range(6)]
    assert sum(math.log(taken / left) for taken, left in pairs) < 0


def test_readers_that_cannot_take_over_are_left_their_means(pico_images: Dataset) -> None:
    model = pico.pico_model(pico.Functional())
    keep = without(
        model, *model.index.layers["conv"].rows[:2].tolist()
    )  # read by a transposed convolution and a bare weight
    seen = inputs_of(model, pico_images, CTX)
    changed, means = compensate(model, keep, seen)
    assert torch.equal(changed.module.up.weight, model.module.up.weight)
    assert torch.equal(changed.module.weight, model.module.weight)
    assert torch.equal(means["up"], seen.mean["up"].float())


def test_the_first_to_leave_costs_what_its_readers_cannot_predict(pico_table: Dataset) -> None:
    model = pico.pico_model(pico.mlp((4, 8, 3)), (4,))
    seen = inputs_of(model, pico_table, CTX)
    found = effects(model, seen, CTX)
    covariance, weight = seen.covariance["2"], model.module[2].weight.detach().double()
    expected = []
    for neuron in range(8):
        others = [u for u in range(8) if u != neuron]
        ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(8, dtype=torch.float64)
        c = covariance + ridge
        unexplained = c[neuron, neuron] - c[neuron, others] @ torch.linalg.solve(
            c[others][:, others], c[others, neuron]
        )
        expected.append(0.5 * (seen.weight["2"] * weight[:, neuron].square()).sum() * unexplained)
    costs = torch.stack(expected)
    assert int(found[:8].argmin()) == int(costs.argmin())
    assert found[:8].min() == pytest.approx(float(costs.min()), rel=1e-6)
    assert torch.isinf(found[8:]).all(), "outputs never leave"


def test_the_sum_of_an_order_is_what_leaving_together_costs(pico_table: Dataset) -> None:
    model = pico.pico_model(pico.mlp((4, 8, 3)), (4,))
    seen = inputs_of(model, pico_table, CTX)
    found = effects(model, seen, CTX)[:8]
    going = found.argsort()[:3]
    assert (found[going].diff() > 0).all(), "no maximum was carried on here, so the values are the steps themselves"
    stay = torch.ones(8, dtype=torch.bool).index_fill(0, going, False)
    ridge = 1e-3 * seen.covariance["2"].diagonal().mean() * torch.eye(8, dtype=torch.float64)
    c = seen.covariance["2"] + ridge
    rest = c[~stay][:, ~stay] - c[~stay][:, stay] @ torch.linalg.solve(c[stay][:, stay], c[stay][:, ~stay])
    weight = model.module[2].weight.detach().double()[:, ~stay] * seen.weight["2"].sqrt()[:, None]
    assert float(found[going].sum()) == pytest.approx(float(0.5 * torch.einsum("oi,ij,oj->", weight, rest, weight)))


@pytest.mark.parametrize("make", pico.NETWORKS)
def test_every_neuron_that_may_go_has_an_effect(make: type[nn.Module], pico_images: Dataset) -> None:
    model = pico.pico_model(make())
    found = effects(model, inputs_of(model, pico_images, CTX), CTX)
    may_go = ~model.index.fixed
    assert torch.isfinite(found[may_go]).all()
    assert (found[may_go] >= 0).all()
    assert found[may_go].max() > 0
    assert torch.equal(found, found[model.index.group])


@pytest.mark.parametrize("make", [make for make in pico.NETWORKS if make is not pico.Literal])
def test_sizes_are_those_of_the_shrunk_network(make: type[nn.Module], pico_images: Dataset) -> None:
    model = pico.pico_model(make())
    sizes = Sizes.of(model, inputs_of(model, pico_images, CTX).positions)
    keep = sample(model.index, 0.4, seed=2)
    small, _ = shrink(model, keep)
    assert sizes.count(keep) == (parameters(small), macs(small))
    assert sizes.count(torch.ones_like(keep)) == (parameters(model), macs(model))


def test_what_one_neuron_saves(pico_images: Dataset) -> None:
    model = pico.pico_model()
    sizes = Sizes.of(model, inputs_of(model, pico_images, CTX).positions)
    whole = torch.ones(model.index.n, dtype=torch.bool)
    inner = int(model.index.layers["one"].rows[1])
    alone, products = (table[inner] for table in sizes.saved_by(whole))
    before, after = sizes.count(whole), sizes.count(without(model, inner))
    assert alone == before[0] - after[0]
    assert products == before[1] - after[1]
