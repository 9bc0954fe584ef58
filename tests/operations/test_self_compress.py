"""Learning bits: a size that is reached, a guard that fires, rows of no bits that go, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import quality
from surgery.edit.few_bits import Course, FewBits, Watch, learn
from surgery.errors import Cancelled, DataError, SelectionError, SurgeryError
from surgery.network.cost import bytes_of
from surgery.network.model import Model
from surgery.operations.base import Candidate
from surgery.operations.self_compress import SelfCompress
from tests.patients import split_digits


@pytest.fixture(scope="module")
def model() -> Model:
    """One that knows the drawings."""
    return replace(split_digits(), parts=())


@pytest.fixture
def data(pico_images: Dataset) -> Dataset:
    return pico_images.without_test()


def test_a_size_is_reached_and_the_file_really_has_it(model: Model, data: Dataset) -> None:
    least, whole = SelfCompress().on(model, data, Context()).smallest(), bytes_of(model)
    goal = (least + 0.08 * (whole - least)) / 1000
    plan = SelfCompress(kilobytes=goal, epochs=30, frozen=10, tolerance=20, rate=2e-3)
    outcome = plan.operate([model], data, Context())
    small = outcome.models[0]
    assert bytes_of(small) <= 1000 * goal
    assert quality(small, data, data.ids("val"), Context()) >= quality(model, data, data.ids("val"), Context()) - 0.2
    looks = outcome.tables["looks"]
    assert set(looks["stage"]) == {"learning", "held"}
    assert looks["bytes"].iloc[-1] < looks["bytes"].iloc[0]
    assert set(outcome.tables["bits"]["weight"]) == set(small.held)


def test_room_that_a_size_leaves_is_not_given_away(model: Model, data: Dataset) -> None:
    four, whole = bytes_of(FewBits.of(model, 4.0).settle()), bytes_of(model)
    goal = (four + 0.2 * (whole - four)) / 1000
    for epochs, above in ((60, True), (4, False)):  # with time to come down to it, and without
        plan = SelfCompress(kilobytes=goal, epochs=epochs, frozen=0, tolerance=100)
        start = bytes_of(plan.on(model, data, Context()).start().settle())
        assert start > four
        assert (start > 1000 * goal) == above
        assert four < bytes_of(plan.operate([model], data, Context()).models[0]) <= 1000 * goal
    still = SelfCompress(kilobytes=goal, epochs=60, gamma=0, tolerance=100).on(model, data, Context()).start()
    assert four < bytes_of(still.settle()) <= 1000 * goal, "without pressure bits stay where they begin"
    tight = SelfCompress(kilobytes=0.9 * four / 1000, tolerance=100).on(model, data, Context()).start()
    assert bytes_of(tight.settle()) == four, "the plan's own start is enough"


def test_under_full_pressure_the_guard_fires_and_the_result_is_safe(model: Model, data: Dataset) -> None:
    lines: list[str] = []
    ctx = Context(report=lambda event: lines.append(str(event.get("log", ""))))
    kept = data.preserving(data.ids("val")[::2].tolist())
    plan = SelfCompress(gamma=10, rate_bits=1.0, epochs=10, frozen=2, tolerance=0, start=8)
    outcome = plan.operate([model], kept, ctx)
    assert outcome.tables["looks"]["back"].any()
    assert any("went back at step" in line for line in lines)
    before = quality(model, kept, kept.ids("preserve"), Context())
    assert quality(outcome.models[0], kept, kept.ids("preserve"), Context()) >= before
    gammas = outcome.tables["looks"]["gamma"]
    assert gammas[gammas > 0].min() < 10, "halved"


def test_without_pressure_bits_stay(model: Model, data: Dataset) -> None:
    outcome = SelfCompress(gamma=0, start=8, frozen=1, tolerance=20).operate([model], data, Context())
    assert {int(b) for packing in outcome.models[0].held.values() for b in packing.bits} == {8}


def test_rows_of_no_bits_are_removed(model: Model, data: Dataset) -> None:
    work = SelfCompress(tolerance=100).on(model, data, Context())
    training = FewBits.of(model, 8)
    alone = next(weight for weight in training.weights if not bool(model.index.fixed[weight.rows].any()))
    group = model.index.group[alone.rows[0]]
    for weight in training.weights:
        training.bits[weight.name][model.index.group[weight.rows] == group] = 0.0
    small, kept = work.without_empty_rows(training)
    assert kept is not None
    assert len(kept) == model.index.n - int((model.index.group == group).sum())
    assert {name: len(b) for name, b in small.bits.items()} == {
        name: len(packing.bits) for name, packing in small.model.held.items()
    }


def test_every_safe_look_is_a_candidate_and_a_plan_can_end_at_one(model: Model, data: Dataset) -> None:
    offered: list[Candidate] = []
    plan = SelfCompress(epochs=6, looks=3, tolerance=100)
    plan.operate([model], data, Context(offer=offered.append))
    assert [one.number for one in offered] == [1, 2, 3]
    assert all(bytes_of(one.model) == one.figures["bytes"] for one in offered)
    ended = plan.model_copy(update={"candidate": 2}).operate([model], data, Context()).models[0]
    x = torch.randn(3, *model.input.shape)
    with torch.no_grad():
        torch.testing.assert_close(ended(x), offered[1].model(x))


def test_a_cancelled_run_has_offered_its_last_safe_state(model: Model, data: Dataset) -> None:
    offered: list[Candidate] = []
    ctx = Context(offer=offered.append, cancelled=lambda: bool(offered))
    with pytest.raises(Cancelled):
        SelfCompress(epochs=20, looks=20, tolerance=100).operate([model], data, ctx)
    assert len(offered) == 1


def test_what_cannot_be_squeezed_says_why(model: Model, data: Dataset) -> None:
    with pytest.raises(SelectionError, match="kB cannot be reached: without a single bit"):
        SelfCompress(kilobytes=0.05).operate([model], data, Context())
    val = data.ids("val")
    one_class = data.preserving(val[data.labels(val) == 0].tolist())
    with pytest.raises(SelectionError, match="are of the class 'bars'"):
        SelfCompress().operate([model], one_class, Context())
    with pytest.raises(DataError, match="labelled"):
        SelfCompress().operate([model], replace(data, task="unlabelled"), Context())


def test_a_loss_of_nan_restores_the_last_safe_state(model: Model, data: Dataset) -> None:
    training = FewBits.of(model, 4)
    before = training.state()
    watch = Watch(lambda _: 1.0, 0.5, every=1_000)
    with pytest.raises(SurgeryError, match="became NaN"):
        learn(training, data, Context(), Course(epochs=40, rate=1e30, rate_bits=0.5, gamma=1.0), watch)
    assert all(torch.equal(training.bits[name].ceil(), b) for name, b in before["bits"].items())


def test_rows_lose_a_bit_one_by_one(model: Model, data: Dataset) -> None:
    training = FewBits.of(model, 4)
    stored = training.held()
    training.stagger()
    assert all(torch.equal(training.held()[name].bits, packing.bits) for name, packing in stored.items())
    assert all(len(b.unique()) == len(b) for b in training.bits.values())
    ended = FewBits.of(model, 4)
    learn(ended, data, Context(), Course(epochs=60, rate_bits=0.01, gamma=3, target=3.5, rate=1e-3))
    assert 3.3 < ended.left() <= 3.6, "level rows would have lost a whole bit together"
