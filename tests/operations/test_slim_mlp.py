"""Slimming dense layers: the sweep and its choice, whole layers, controls, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.build_large import build_large
from surgery.edit.bypass import bypass, fitted
from surgery.edit.evaluate import quality
from surgery.errors import DataError, SelectionError
from surgery.network.cost import parameters
from surgery.network.model import Model
from surgery.operations.base import Candidate
from surgery.operations.slim_mlp import SlimMlp
from tests.patients import digits, mlp


@pytest.fixture(scope="module")
def large(pico_table: Dataset) -> Model:
    """One that has learned the boxes, far larger than it needs to be."""
    return build_large(pico_table.without_test(), Context(), width=24, depth=2, epochs=60, rate=5e-3)


def test_the_smallest_within_the_limit_is_the_result(large: Model, pico_table: Dataset) -> None:
    data, offered = pico_table.without_test(), list[Candidate]()
    plan = SlimMlp(epochs=10, rate=5e-3, tolerance=5, layers=False)
    outcome = plan.operate([large], data, Context(offer=offered.append))
    table = outcome.tables["candidates"]
    rows = table[table["candidate"] > 0]
    assert rows["epsilon"].tolist() == plan.epsilons[: len(rows)]
    assert rows["left"].is_monotonic_decreasing
    before = table["quality"].iloc[0]
    assert before == pytest.approx(quality(large, data, data.ids("val"), Context()))
    best = rows[rows["accepted"]].iloc[-1]
    assert outcome.models[0].module.get_submodule("0").out_features < 24
    assert parameters(outcome.models[0]) == best["parameters"]
    assert [one.number for one in offered] == rows["candidate"].tolist()
    again = SlimMlp(epochs=10, rate=5e-3, tolerance=5, layers=False, candidate=2).operate([large], data, Context())
    x = torch.randn(3, 4)
    with torch.no_grad():
        assert torch.equal(again.models[0](x), offered[1].model(x)), "a plan can be ended at a candidate"


def test_layers_go_whose_work_a_linear_map_does(large: Model, pico_table: Dataset) -> None:
    data = pico_table.without_test()
    plan = SlimMlp(epsilon=0.0, epochs=10, rate=5e-3, tolerance=10, controls=True)
    outcome = plan.operate([large], data, Context())
    model, kept, table = outcome.models[0], outcome.kept, outcome.tables["candidates"]
    assert model.architecture.arguments["names"] != ["0", "2", "4"]
    old = large.index.layer_of[kept]
    assert old.tolist() == sorted(old.tolist())
    assert len(kept) == model.index.n
    controls = table[table["accepted"].isna()].set_index("run")
    assert set(controls.index) == {"random neurons", "same topology from scratch", "equal tuning, no surgery"}
    own = table[(table["run"] == "this plan") & (table["accepted"] == True)].iloc[-1]  # noqa: E712
    assert (controls["epochs"] == own["epochs"]).all(), "all were trained for as long"
    assert controls.loc["same topology from scratch", "parameters"] == own["parameters"]
    assert controls.loc["equal tuning, no surgery", "left"] == 1.0


def test_a_layer_that_bends_nothing_goes_without_a_trace(pico_table: Dataset) -> None:
    model = mlp((4, 8, 6, 3))
    with torch.no_grad():
        model.module.get_submodule("2").bias.fill_(100.0)  # always above 0
    found = bypass(model, "2", pico_table.without_test(), Context())
    assert found.unexplained < 1e-3
    assert found.model.module.names == ["0", "4"]
    assert found.kept.tolist() == [*range(8), 14, 15, 16]
    x = next(iter(pico_table.batches(pico_table.ids("train"), model.input)))[0]
    with torch.no_grad():
        difference = (found.model(x) - model(x)).abs().max() / model(x).std()
    assert difference < 0.02, "but for the ridge"
    with pytest.raises(SelectionError, match="no hidden layer"):
        bypass(model, "4", pico_table.without_test(), Context())


def test_the_fit_of_a_linear_map_is_that_map() -> None:
    x, true = torch.randn(200, 5), torch.randn(3, 5)
    weight, bias, left = fitted(x, x @ true.T + 2.0)
    torch.testing.assert_close(weight, true, rtol=0.02, atol=0.02)
    torch.testing.assert_close(bias, torch.full((3,), 2.0), rtol=0.02, atol=0.02)
    assert left < 1e-4


def test_a_regression_is_slimmed_too(pico_targets: Dataset) -> None:
    data = pico_targets.without_test()
    large = build_large(data, Context(), width=16, depth=2, epochs=120, rate=5e-3)
    assert quality(large, data, data.ids("val"), Context()) > 0.9
    outcome = SlimMlp(epochs=10, rate=5e-3, tolerance=5, controls=True).operate([large], data, Context())
    assert outcome.tables["candidates"]["left"].min() < 0.3
    assert quality(outcome.models[0], data, data.ids("val"), Context()) > 0.85


def test_with_few_samples_the_labels_must_stay_as_likely(large: Model, pico_table: Dataset) -> None:
    data = pico_table.without_test()
    unsure = copy.deepcopy(large)
    with torch.no_grad():
        for value in unsure.module.get_submodule("4").parameters():
            value.mul_(0.1)  # the same answers, said with less certainty
    few, enough = 50 / len(data.ids("val")), 101 / len(data.ids("val"))
    for tolerance, unsure_accepted in ((few, False), (enough, True)):
        work = SlimMlp(tolerance=tolerance).on(large, data, Context())
        judged = [
            work._judge(number, "a look", model, torch.arange(large.index.n), None)
            for number, model in enumerate((large, unsure, large), 1)
        ]
        assert [one.figures["change"] for one in judged] == [0, 0, 0]
        assert [one.accepted for one in judged] == [True, unsure_accepted, True]
    with pytest.raises(SelectionError, match=r"makes their labels less likely, and .* too few to choose"):
        work = SlimMlp(tolerance=few, steps=1, layers=False).on(large, data, Context())
        work._tuned = lambda *given: unsure  # type: ignore[method-assign]
        work.run()


def test_an_epsilon_that_empties_a_layer_is_refused_by_name(pico_table: Dataset) -> None:
    with pytest.raises(SelectionError, match=r"At ε = 9 nothing would stay of 0, 2"):
        SlimMlp(epsilon=9).operate([mlp()], pico_table.without_test(), Context())
    plan = SlimMlp(lowest=0.5, highest=9, steps=2, epochs=1, tolerance=100, layers=False)
    table = plan.operate([mlp()], pico_table.without_test(), Context()).tables["candidates"]
    assert table["candidate"].tolist() == [0, 1], "a sweep ends there"


def test_what_cannot_be_slimmed_says_why(pico_table: Dataset, tmp_path_factory: pytest.TempPathFactory) -> None:
    for without in (digits(), mlp((4, 3))):
        assert "no dense hidden layer" in SlimMlp().check([without])[0]
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    folder = tmp_path_factory.mktemp("data") / "flat"
    flat = from_arrays(folder, x, np.full(60, 7.0, np.float32), classes=("y",), name="flat", task="regression")
    with pytest.raises(DataError, match="target is 7"):
        SlimMlp().operate([replace(mlp((4, 8, 1)), task="regression")], flat.without_test(), Context())
    with pytest.raises(DataError, match="target is 7"):
        build_large(flat.without_test(), Context())
    with pytest.raises(SelectionError, match="No ε stayed within the limit"):
        damaging = SlimMlp(epochs=0, tolerance=0, lowest=1.2, highest=1.3, steps=2, layers=False)
        large = build_large(pico_table.without_test(), Context(), width=24, depth=2, epochs=60, rate=5e-3)
        damaging.operate([large], pico_table.without_test(), Context())


def test_pictures_are_no_table(pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="built for a table"):
        build_large(pico_images.without_test(), Context())
