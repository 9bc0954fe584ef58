"""Shares and what judges them: forms that fit, adapters that move alone, agreement and its limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.edit.agreement import Agreement, Limits, agreement, limits_for, own_agreement
from surgery.edit.evaluate import placed, predict
from surgery.edit.lend import Share, fits, lend, ridge, tuned
from surgery.errors import SelectionError, TraceError
from surgery.network.cuts import cuts_of
from surgery.network.facts import alike
from surgery.network.model import Origin
from tests.patients import digits, fleet, mlp, writer


def test_forms_must_fit(pico_many: Dataset) -> None:
    one, other = digits(), digits((6, 6, 6))
    stem, down = cuts_of(one)[0], cuts_of(other)[1]
    assert fits(stem, down), "maps of any size"
    table = cuts_of(mlp())[0]
    assert not fits(stem, table)
    with pytest.raises(SelectionError, match=r"stem gives \[4, 8, 8\], 0 wants \[8\]"):
        ridge(one, mlp(), stem, table, pico_many, pico_many.ids("train"), Context())


def test_maps_are_resized_up_and_down(pico_many: Dataset) -> None:
    one, other = fleet()[0], fleet()[2]
    for cut, at in ((cuts_of(one)[0], cuts_of(other)[2]), (cuts_of(one)[2], cuts_of(other)[0])):
        share = Share(cut, at, ridge(one, other, cut, at, pico_many, pico_many.ids("train"), Context()))
        said = predict(lend(one, other, share), pico_many, pico_many.ids("val"), Context())
        assert bool(torch.isfinite(said).all())


def test_a_share_says_what_it_saves(pico_many: Dataset) -> None:
    one, other = fleet()[0], fleet()[2]
    cut, at = cuts_of(one)[1], cuts_of(other)[1]
    adapter = ridge(one, other, cut, at, pico_many, pico_many.ids("train"), Context())
    assert Share(cut, at, None).saved == at.bytes
    assert Share(cut, at, adapter).saved == at.bytes - 4 * (cut.shape[0] + 1) * at.shape[0]


def test_origins_of_both_are_kept() -> None:
    one, other = fleet()[0], fleet()[2]
    mine, lent = Origin("mine", "MIT"), Origin("lent", "GPL-3.0")
    share = Share(cuts_of(one)[1], cuts_of(one)[1], None)
    made = lend(replace(one, origins=(lent,)), replace(one, origins=(mine,)), share)
    assert made.origins == (mine, lent)
    assert other.origins == fleet()[2].origins


def test_tuning_moves_the_adapter_alone(pico_many: Dataset) -> None:
    one, _, other = fleet()
    cut, at = cuts_of(one)[1], cuts_of(other)[3]
    ids = pico_many.ids("train")
    share = Share(cut, at, ridge(one, other, cut, at, pico_many, ids, Context()))
    before = [{name: t.clone() for name, t in model.module.state_dict().items()} for model in (one, other)]
    for model in (one, other):
        model.module.zero_grad()
    better = tuned(one, other, share, pico_many, ids, Context(), epochs=5)
    wanted = predict(other, pico_many, ids, Context()).log_softmax(1)

    def distance(one_share: Share) -> float:
        said = predict(lend(one, other, one_share), pico_many, ids, Context()).log_softmax(1)
        return float(torch.nn.functional.kl_div(said, wanted, reduction="batchmean", log_target=True))

    assert distance(better) < distance(share)
    for model, state in zip((one, other), before, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in model.module.state_dict().items())
        assert all(parameter.grad is None for parameter in model.module.parameters())
    assert tuned(one, other, Share(cut, cut, None), pico_many, ids, Context(), epochs=5).adapter is None


def test_agreement_counts_answers_divergence_and_the_worst_class() -> None:
    before = torch.eye(3)[[0] * 30 + [1] * 50 + [2] * 5] * 4
    after = before.clone()
    after[:6], after[80:] = torch.tensor([0.0, 4.0, 0.0]), torch.tensor([4.0, 0.0, 0.0])
    found = agreement(before, after, ("a", "b", "c"))
    assert found.share == pytest.approx(74 / 85)
    assert (found.worst_class, found.worst) == ("a", pytest.approx(24 / 30)), "c has too few samples to be judged"
    p = torch.tensor([4.0, 0.0, 0.0]).softmax(0)
    assert found.kl == pytest.approx(11 / 85 * float((p[0] - p[1]) * 4), rel=1e-6)
    after[0] = torch.nan
    broken = agreement(before, after, ("a", "b", "c"))
    assert broken.share == pytest.approx(74 / 85), "it disagreed before too"
    assert broken.kl == float("inf")
    assert "divergence inf nats" in Limits(0.5).failed(broken)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Agreement(0.98, 0.05, 0.95, "a", 100), ""),
        (Agreement(0.90, 0.05, 0.95, "a", 100), "agreement 90.0% is 7.0 points below 97.0%"),
        (Agreement(0.98, 0.30, 0.95, "a", 100), "divergence 0.300 nats is 0.200 above 0.100"),
        (Agreement(0.98, 0.05, 0.80, "a", 100), "agreement of class a 80.0% is 10.0 points below 90.0%"),
    ],
)
def test_limits_say_what_failed_and_by_how_much(found: Agreement, said: str) -> None:
    assert Limits().failed(found) == said


def test_a_network_that_wavers_may_waver_but_not_beyond_what_is_asked() -> None:
    asked = Limits(0.97)
    assert limits_for(1.0, asked).share == pytest.approx(0.99), "never less than one in a hundred"
    assert limits_for(0.98, asked).share == pytest.approx(0.98)
    assert limits_for(0.80, asked).share == pytest.approx(0.97)


def test_slight_changes_of_the_input(pico_many: Dataset, pico_table: Dataset) -> None:
    for model, data in ((fleet()[0], pico_many), (mlp(), pico_table)):
        ids = data.ids("train")
        said = predict(model, data, ids, Context())
        first, again = (own_agreement(model, data, ids, said, Context(seed=1)) for _ in range(2))
        assert first == again
        assert 0.5 < first <= 1.0


def test_slight_changes_of_a_row_are_measured_by_what_rows_do(tmp_path: Path) -> None:
    """Features of any scale, a model without normalisation: one is told from the other by 2 % of its spread."""
    x = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    x[:, 0] *= 1e4
    data = from_arrays(
        tmp_path / "rows", x, (x[:, 0] > 0).astype(int), classes=("a", "b"), name="rows", task="classification"
    )
    model = replace(mlp((4, 8, 2)), classes=("a", "b"))
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.zero_()
        model.module.get_submodule("0").weight[0, 0] = 1.0
        model.module.get_submodule("2").weight[0, 0] = 1.0
        model.module.get_submodule("2").bias[1] = 100.0
    ids = data.ids("train")
    share = own_agreement(model, data, ids, predict(model, data, ids, Context()), Context())
    assert 0.9 < share < 1.0, "rows near the threshold change, although the feature is large"


def test_models_are_moved_back_whatever_happens() -> None:
    """Without a second device here, what is moved and when is watched."""
    moved: list[object] = []

    class Watched(torch.nn.Linear):
        def to(self, *given: object, **named: object) -> Watched:
            moved.append(given[0])
            return self

    with pytest.raises(ZeroDivisionError), placed("cuda:7", Watched(2, 2), Watched(2, 2)):
        raise ZeroDivisionError
    assert [str(one) for one in moved] == ["cuda:7", "cuda:7", "cpu", "cpu"]


def test_who_cannot_share(pico_text: Dataset) -> None:
    with pytest.raises(TraceError, match=r"b takes table of \[4\]: nothing computed for one serves"):
        alike({"a": digits(), "b": mlp()})
    with pytest.raises(SelectionError, match="b is no classifier of pictures or rows"):
        alike({"a": writer(0), "b": writer(0)} | {"a": digits()})
    with pytest.raises(SelectionError, match="a is no classifier"):
        alike({"a": replace(mlp((4, 8, 1)), task="regression"), "b": mlp()})
    other = replace(digits(), input=replace(digits().input, mean=(0.1,)))
    alike({"a": digits(), "b": other})


def test_another_normalisation_is_undone(pico_many: Dataset) -> None:
    """The host sees the sample as it was trained to, whatever the guest's mean and spread are."""
    host, guest = fleet()[0], fleet()[1]
    seen_otherwise = replace(guest, input=replace(guest.input, mean=(0.2,), std=(0.9,)))
    cut = cuts_of(host)[3]
    one, two = (lend(host, own, Share(cut, cut, None)) for own in (guest, seen_otherwise))
    ids = pico_many.ids("val")
    torch.testing.assert_close(
        predict(one, pico_many, ids, Context()), predict(two, pico_many, ids, Context()), rtol=1e-4, atol=1e-4
    )
