"""Sharing as a whole: what is chosen, what is refused and why."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import predict
from surgery.errors import Cancelled, DataError, SelectionError
from surgery.network.size import weight_bytes
from surgery.operations.share import Share
from surgery.plan import Plan, run
from tests.patients import digits, fleet, ignorant, mlp


def test_the_largest_saving_that_passes_is_made(pico_many: Dataset) -> None:
    models = list(fleet())
    outcome = Share().operate(models, pico_many.without_test(), Context())
    assert set(outcome.lent) == {1, 2}
    assert all(lent.host == 0 for lent in outcome.lent.values())
    assert outcome.models[0] is models[0], "a host stays as it is"
    assert outcome.kept is None
    table = outcome.tables["shares"]
    chosen = table[table["chosen"]]
    assert weight_bytes(models) - weight_bytes(outcome.models) == chosen["saved"].sum()
    assert chosen["accepted"].all()
    assert (chosen["agreement"] >= chosen["limit"]).all()
    refused = table[~table["accepted"]]
    assert refused["reason"].str.contains("points below").any(), "a stranger's channels lie otherwise"
    misled = refused[(refused["guest"] == 2) & (refused["adapter"] == "none")]
    assert (misled["similarity"] > 0.95).any(), "although it is as similar as can be"


def test_a_model_that_shares_still_agrees_with_itself(pico_many: Dataset) -> None:
    models = list(fleet())
    outcome = Share().operate(models, pico_many.without_test(), Context())
    ids = pico_many.ids("test")
    for before, after in zip(models, outcome.models, strict=True):
        old, new = (predict(model, pico_many, ids, Context()).argmax(1) for model in (before, after))
        assert (old == new).double().mean() >= 0.95


def test_a_budget_ends_it(pico_many: Dataset) -> None:
    models = list(fleet())
    whole = weight_bytes(models)
    every = Share().operate(models, pico_many.without_test(), Context())
    least = weight_bytes(every.models)
    between = Share(budget=(whole - 1000) / 1e6).operate(models, pico_many.without_test(), Context())
    assert len(between.lent) == 1
    assert least < weight_bytes(between.models) <= whole - 1000
    said: list[str] = []
    ctx = Context(report=lambda event: said.append(str(event.get("log", ""))))
    Share(budget=1e-6).operate(models, pico_many.without_test(), ctx)
    assert any("asked for were 1e-06 MB" in line for line in said), "what could not be reached is said"


def test_a_guest_that_comes_first_keeps_its_ids(pico_many: Dataset) -> None:
    first, further, _ = fleet()
    shares = ({"host": 1, "cut": "top", "guest": 0, "at": "block"},)
    outcome = Share(shares=shares, agreement=0, worst=0, divergence=100).operate(
        [first, further], pico_many.without_test(), Context()
    )
    made = outcome.models[0]
    assert made.index is not None
    assert outcome.kept is not None
    assert len(outcome.kept) == made.index.n
    layer = made.index.layers["back.network.top.conv"]
    assert first.index is not None
    assert torch.equal(outcome.kept[layer.rows], first.index.layers["top.conv"].rows)
    assert (outcome.kept[made.index.layers["front.network.stem.conv"].rows] == -1).all()


def test_without_adapters_nothing_is_fitted(pico_many: Dataset) -> None:
    outcome = Share(adapters=False).operate(list(fleet()), pico_many.without_test(), Context())
    assert set(outcome.lent) == {1}, "the stranger finds nobody"
    assert (outcome.tables["shares"]["adapter"].dropna() == "none").all()


def test_no_share_passes_and_it_is_said_which_came_closest(pico_many: Dataset) -> None:
    first, _, stranger = fleet()
    with pytest.raises(SelectionError, match=r"No share passes. Closest came model \d at .* points below") as error:
        Share(adapters=False).operate([first, stranger], pico_many.without_test(), Context())
    assert "Allow less agreement" in str(error.value)


def test_what_was_chosen_by_hand_is_judged_too(pico_many: Dataset) -> None:
    first, further, _ = fleet()
    data = pico_many.without_test()
    good = {"host": 0, "cut": "top", "guest": 1, "at": "top"}
    assert set(Share(shares=(good,)).operate([first, further], data, Context()).lent) == {1}
    with pytest.raises(SelectionError, match="Model 2 cannot go on at top from top of model 1: "):
        Share(shares=(good,), adapters=False).operate([first, ignorant(first)], data, Context())
    narrow = {"host": 0, "cut": "block", "guest": 1, "at": "top"}
    with pytest.raises(SelectionError, match="the forms do not fit"):
        Share(shares=(narrow,), adapters=False).operate([first, further], data, Context())
    with pytest.raises(SelectionError, match=r"Model 1 cannot be cut at 'nowhere'. Its cuts are: stem, down"):
        Share(shares=({**good, "cut": "nowhere"},)).operate([first, further], data, Context())


@pytest.mark.parametrize(
    ("share", "said"),
    [
        ({"host": 0, "cut": "top", "guest": 5, "at": "top"}, "A share names model 5, there are 2, from 0"),
        ({"host": 0, "cut": "top", "guest": 0, "at": "top"}, "Model 0 cannot go on from model 0"),
    ],
)
def test_shares_that_cannot_be(share: dict[str, object], said: str) -> None:
    assert any(said in problem for problem in Share(shares=(share,)).check(list(fleet()[:2])))


def test_chains_and_two_hosts_are_refused() -> None:
    chain = [{"host": 0, "cut": "top", "guest": 1, "at": "top"}, {"host": 1, "cut": "top", "guest": 2, "at": "top"}]
    assert any("a model has one host, and a host none" in one for one in Share(shares=chain).check(list(fleet())))
    with pytest.raises(ValidationError, match="greater than 0"):
        Share(budget=0)


def test_one_model_and_other_inputs_are_refused() -> None:
    assert any("One model alone has nobody to share with" in one for one in Share().check([digits()]))
    assert any("nothing computed for one serves the other" in one for one in Share().check([digits(), mlp()]))


def test_too_few_samples_are_refused(pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="has 21 samples to fit on and 21 others to judge on; each must be 32"):
        Share().operate(list(fleet()), pico_images.without_test(), Context())


def test_the_same_model_twice_shares_all_of_it(pico_many: Dataset) -> None:
    model = fleet()[0]
    outcome = Share().operate([model, model], pico_many.without_test(), Context())
    table = outcome.tables["shares"]
    assert float(table[table["chosen"]]["agreement"].iloc[0]) == 1.0
    assert list(table[table["chosen"]]["at"]) == ["top"]


def test_its_receipt_is_about_every_model(pico_many: Dataset) -> None:
    plan = Plan(operation="share", inputs=("a", "b", "c"), dataset="d", preserve=tuple(pico_many.ids("val")[:6]))
    outcome, receipt = run(plan, list(fleet()), pico_many, Context(), names=["one", "two", "three"])
    assert len(outcome.lent) == 2
    agreed = {row["scope"]: row["after"] for row in receipt.table if row["metric"] == "agreement"}
    assert agreed.keys() == {"one", "two", "three", "overall"}
    assert agreed["one"] == 1.0
    memory = receipt.row("weights in memory")
    assert memory is not None
    promised = sum(row["saved"] for row in receipt.tables["shares"] if row["chosen"])
    assert memory["before"] - memory["after"] == promised, "measured in a process that loads nothing else"
    times = {row["scope"] for row in receipt.table if row["metric"] == "latency"}
    assert {"all members, batch 1", "two alone, batch 32", "two and one, batch 32"} <= times
    work = receipt.row("MACs")
    assert work is not None
    assert work["after"] < work["before"]
    assert (receipt.cases["n"], receipt.cases["right"] > 0) == (12, True), "six of each guest"


def test_a_budget_that_fits_already_is_said(pico_many: Dataset) -> None:
    with pytest.raises(SelectionError, match=r"weights take 0.059\d* MB already, within the 1 MB asked for"):
        Share(budget=1).operate(list(fleet()), pico_many.without_test(), Context())


def test_it_is_cancelled_in_the_middle_of_a_trial(pico_many: Dataset) -> None:
    stages: list[str] = []
    ctx = Context(
        report=lambda event: stages.append(str(event.get("stage", ""))),
        cancelled=lambda: any(stage.startswith("trying") for stage in stages),
    )
    with pytest.raises(Cancelled):
        Share(adapters=False).operate(list(fleet()), pico_many.without_test(), ctx)
