"""Literal replicas of ODF2NNA (arXiv 2310.12560): the ε rule, unit by unit, and means folded into biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from surgery.analysis.variability import dense_units, emptied, spread_of, useful
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.operations.slim_mlp import SlimMlp
from tests.patients import mlp
from tests.pico import pico_model


def test_a_unit_stays_when_it_varies_more_than_epsilon_times_the_mean_of_its_layer(pico_table: Dataset) -> None:
    model = mlp()
    work = SlimMlp().on(model, pico_table.without_test(), Context())
    x = torch.cat([x for x, _, _ in pico_table.batches(pico_table.ids("train"), model.input)])
    with torch.no_grad():
        first = torch.relu(model.module.get_submodule("0")(x)).double()
        second = torch.relu(model.module.get_submodule("2")(first.float())).double()
    for epsilon in (0.3, 0.8, 1.0, 1.2):
        keep = useful(model.index, work.spread, epsilon)
        wanted = []
        for out in (first, second):
            stds = [float(column.std(unbiased=False)) for column in out.T]
            wanted += [std > epsilon * sum(stds) / len(stds) for std in stds]
        assert keep.tolist() == [*wanted, True, True, True], "the outputs stay"
        largest = useful(model.index, work.spread, epsilon, "max")
        assert largest.sum() <= keep.sum()


def test_a_unit_that_goes_leaves_its_mean_in_its_readers_biases(pico_table: Dataset) -> None:
    model = mlp()
    work = SlimMlp().on(model, pico_table.without_test(), Context())
    small, kept = work.slim(1.0)
    x = torch.cat([x for x, _, _ in pico_table.batches(pico_table.ids("train"), model.input)])
    with torch.no_grad():
        first = torch.relu(model.module.get_submodule("0")(x))
        stays = torch.zeros(8, dtype=torch.bool)
        stays[kept[kept < 8]] = True
        hidden = torch.where(stays, first, first.mean(0))
        second = torch.relu(model.module.get_submodule("2")(hidden))
        also = torch.zeros(6, dtype=torch.bool)
        also[kept[(kept >= 8) & (kept < 14)] - 8] = True
        whole = torch.relu(model.module.get_submodule("2")(first)).mean(0)  # means are those of the network as it was
        out = model.module.get_submodule("4")(torch.where(also, second, whole))
        torch.testing.assert_close(small(x), out, rtol=1e-4, atol=1e-5)


def test_nothing_goes_at_zero_and_a_constant_unit_goes_without_a_trace(pico_table: Dataset) -> None:
    model = mlp()
    with torch.no_grad():
        model.module.get_submodule("2").weight[4] = 0.0
        model.module.get_submodule("2").bias[4] = 0.7
    x = torch.cat([x for x, _, _ in pico_table.batches(pico_table.ids("train"), model.input)])
    for epsilon, units in ((0.0, 17), (1e-9, 16)):
        work = SlimMlp(epsilon=epsilon).on(model, pico_table.without_test(), Context())
        small, kept = work.slim(epsilon)
        assert len(kept) <= units
        with torch.no_grad():
            torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)


def test_only_dense_units_that_go_alone_are_judged() -> None:
    head = (nn.Flatten(), nn.Linear(4 * 36, 9), nn.ReLU(), nn.Linear(9, 3))
    model = pico_model(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *head).eval())
    index = model.index
    units = dense_units(index)
    dense = [name for name, layer in index.layers.items() if layer.kind == "linear"]
    assert {name for name, layer in index.layers.items() if bool(units[layer.rows].any())} == set(dense[:-1])
    assert not bool(units[index.logits].any())
    keep = useful(index, torch.zeros(index.n, dtype=torch.float64), 2.0)
    assert emptied(index, keep) == dense[:-1], "the convolutions are not judged"


def test_a_unit_nobody_reads_does_not_vary() -> None:
    index = mlp().index
    found = spread_of(index, {"2": torch.full((8,), 4.0)})
    assert found[:8].tolist() == pytest.approx([2.0] * 8)
    assert not bool(found[8:].any())
