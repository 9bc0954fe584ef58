"""Compress: down to a size within limits, every step a candidate, and what it says when that cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.errors import Cancelled, DataError, SelectionError
from surgery.network.certificate import relative
from surgery.network.cost import bytes_of, macs, parameters
from surgery.network.latency import Latency
from surgery.network.model import Model
from surgery.operations import descent
from surgery.operations.base import Candidate, Outcome
from surgery.operations.compress import Compress
from tests import pico


@pytest.fixture(scope="module")
def trained(pico_images: Dataset) -> Model:
    """A small residual network that has learnt the drawings."""
    from surgery.edit.tune import tune

    torch.manual_seed(3)
    return tune(pico.pico_model(), pico_images, Context(seed=1), epochs=300, rate=1e-2)


def run(model: Model, data: Dataset, ctx: Context | None = None, **given: Any) -> Outcome:
    plan = Compress(**{"parameters": 0.6, "tolerance": None, "steps": 2, "epochs": 0.5, **given})
    assert plan.check([model]) == []
    return plan.operate([model], data.without_test(), ctx or Context(seed=0))


def offered(model: Model, data: Dataset, **given: Any) -> tuple[list[Candidate], Outcome]:
    taken: list[Candidate] = []
    return taken, run(model, data, Context(seed=0, offer=taken.append), **given)


def outputs(model: Model, data: Dataset) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(x) for x, _, _ in data.batches(data.ids("val"), model.input)])


def weights(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.module.state_dict())


def same(a: Model, b: Model) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_it_comes_down_to_the_size_and_tells_every_step(trained: Model, pico_images: Dataset) -> None:
    outcome = run(trained, pico_images)
    small, table = outcome.models[0], outcome.tables["candidates"]
    left = parameters(small) / parameters(trained)
    assert 0.4 < left <= 0.6
    last = table.iloc[-1]
    assert (last["parameters"], last["macs"]) == (parameters(small), macs(small))
    assert last["left"] == pytest.approx(left)
    assert table["candidate"].tolist() == list(range(len(table)))
    assert table.iloc[0]["stage"] == "as it is"
    assert outcome.kept is not None
    assert len(outcome.kept) == small.index.n


def test_what_is_left_of_computation_is_met_too(trained: Model, pico_images: Dataset) -> None:
    small = run(trained, pico_images, macs=0.58, slices="no").models[0]
    assert macs(small) <= 0.58 * macs(trained)
    assert parameters(small) <= 0.6 * parameters(trained)


@pytest.mark.parametrize("order", ["taylor", "l2", "lamp", "global", "uniform+", "erk", "random"])
@pytest.mark.parametrize("layers", ["together", "alike"])
def test_every_order_reaches_the_size(trained: Model, pico_images: Dataset, order: str, layers: str) -> None:
    small = run(trained, pico_images, order=order, layers=layers, slices="no", steps=1, epochs=0).models[0]
    assert parameters(small) <= 0.6 * parameters(trained)


def test_it_works_for_a_number_to_predict(pico_targets: Dataset) -> None:
    module = pico.mlp((4, 12, 8, 1))
    model = replace(pico.pico_model(module, (4,)), task="regression", classes=("sum",))
    small = run(model, pico_targets).models[0]
    assert parameters(small) <= 0.6 * parameters(model)


def test_protected_neurons_stay(trained: Model, pico_images: Dataset) -> None:
    protect = trained.index.layers["one"].rows[:3].tolist()
    outcome = run(trained, pico_images, protect=protect)
    assert outcome.kept is not None
    assert set(protect) <= set(outcome.kept.tolist())


def test_the_last_step_within_the_tolerance_is_the_result(trained: Model, pico_images: Dataset) -> None:
    taken, outcome = offered(trained, pico_images, parameters=0.2, tolerance=5.0, steps=6, epochs=0, order="random")
    accepted = [one for one in taken if one.accepted]
    assert accepted
    assert not taken[-1].accepted, "it went on until one was too bad"
    assert same(outcome.models[0], accepted[-1].model)


def test_tolerance_zero_allows_no_loss(trained: Model, pico_images: Dataset) -> None:
    outcome = run(trained, pico_images, parameters=0.9, tolerance=0.0, steps=1)
    assert (outcome.tables["candidates"]["change"] >= -1e-9).all()


def test_a_floor_that_is_never_met_is_an_error_with_the_figures(trained: Model, pico_images: Dataset) -> None:
    with pytest.raises(SelectionError, match=r"Not even the first step stayed within the limits: with \d+%"):
        run(trained, pico_images, parameters=0.15, floor=1.0, steps=1, epochs=0, order="random", slices="no")


def test_a_size_below_the_smallest_says_how_small_it_can_get(trained: Model, pico_images: Dataset) -> None:
    with pytest.raises(SelectionError, match=r"cannot get that small: with what must stay it has \d+ parameters"):
        run(trained, pico_images, parameters=0.01, slices="no")


def test_slices_that_free_nothing_say_so(trained: Model, pico_images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent.slices, "critical", lambda level, theta: torch.ones_like(level, dtype=torch.bool))
    logs: list[str] = []
    ctx = Context(seed=0, report=lambda event: logs.append(str(event.get("log", ""))))
    outcome = run(trained, pico_images, ctx, slices="theta", twins=False)
    assert any("every neuron is critical for some class, so the slices free nothing" in line for line in logs)
    assert "no class needs them" not in set(outcome.tables["candidates"]["stage"])


def test_what_no_class_needs_goes_first_and_is_an_iteration(trained: Model, pico_images: Dataset) -> None:
    table = run(trained, pico_images, slices="theta", theta=0.6, twins=False).tables["candidates"]
    assert table.iloc[1]["stage"] == "no class needs them"


def test_masked_is_as_large_as_before_and_answers_like_the_smaller_one(trained: Model, pico_images: Dataset) -> None:
    small = run(trained, pico_images).models[0]
    outcome = run(trained, pico_images, result="masked")
    masked = outcome.models[0]
    assert relative(outputs(masked, pico_images), outputs(small, pico_images)) <= 1e-5
    assert bytes_of(masked) >= bytes_of(trained)
    assert outcome.kept is None
    assert masked.index.n == trained.index.n


def test_candidates_of_a_masked_result_are_masked_too(trained: Model, pico_images: Dataset) -> None:
    taken, outcome = offered(trained, pico_images, result="masked")
    assert all(parameters(one.model) >= parameters(trained) and one.kept is None for one in taken)
    assert same(taken[-1].model, outcome.models[0])


def test_a_plan_that_ends_at_a_candidate_gives_its_weights(trained: Model, pico_images: Dataset) -> None:
    taken, _ = offered(trained, pico_images, parameters=0.3, steps=6, slices="no")
    again = run(trained, pico_images, parameters=0.3, steps=6, slices="no", candidate=1)
    assert len(taken) > 1
    assert same(again.models[0], taken[0].model)


def test_the_controls_stand_beside_it_at_equal_sizes(trained: Model, pico_images: Dataset) -> None:
    table = run(trained, pico_images, controls=True).tables["candidates"]
    own = table[(table["run"] == "this plan") & (table["candidate"] > 0)]
    for name in ("without slices", "random neurons"):
        control = table[(table["run"] == name) & (table["candidate"] > 0)]
        assert len(control) == len(own)
        assert (control["left"].to_numpy() <= own["left"].to_numpy() + 1e-9).all()
    untouched = table[table["run"] == "equal tuning, no surgery"]
    assert set(untouched["parameters"]) == {parameters(trained)}


def test_it_stops_as_soon_as_it_is_quick_enough(
    trained: Model, pico_images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.9, 0.4])

    def measured(models: Any, batch: int, ctx: Context) -> dict[str, Latency]:
        return {"before": Latency(batch, 1.0, 0.0, 5), "now": Latency(batch, next(times), 0.0, 5)}

    monkeypatch.setattr(descent, "latency", measured)
    table = run(trained, pico_images, parameters=0.3, latency=0.5, steps=6, slices="no").tables["candidates"]
    assert len(table) == 3, "the input, one that was too slow, one that was quick enough"


def test_cancelled_on_the_way_its_candidates_are_out_already(trained: Model, pico_images: Dataset) -> None:
    taken: list[Candidate] = []
    ctx = Context(seed=0, offer=taken.append, cancelled=lambda: len(taken) >= 2)
    with pytest.raises(Cancelled):
        run(trained, pico_images, ctx, parameters=0.3, steps=6, slices="no")
    assert len(taken) == 2


def test_a_selection_of_another_version_is_refused(trained: Model) -> None:
    (problem,) = Compress(protect=[trained.index.n + 5]).check([trained])
    assert "does not exist" in problem
    (problem,) = Compress(protect=list(range(trained.index.n))).check([trained])
    assert "nothing may go" in problem


def test_without_labels_it_cannot_know_when_to_stop(trained: Model, pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="needs labelled validation samples"):
        run(trained, replace(pico_images, task="unlabelled"))


def test_what_goes_at_once_costs_no_more_than_the_tolerance(trained: Model, pico_images: Dataset) -> None:
    outcome = run(trained, pico_images, parameters=0.3, tolerance=0.0, twins=False, epochs=0, candidate=1)
    assert outcome.tables["candidates"]["change"].iloc[1] >= 0
