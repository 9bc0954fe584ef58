"""Surgeries on a language model: those that work, and what the others say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from surgery.analysis.must_keep import coverage, draw
from surgery.analysis.regions import Locator
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import losses
from surgery.edit.tune import tune
from surgery.errors import PlanError
from surgery.network import store
from surgery.network.model import Model
from surgery.network.size import bytes_of
from surgery.operations.base import Cases, find
from surgery.plan import Plan, run
from surgery.receipt import Receipt, answers
from surgery.receipt_html import to_html
from tests.patients import writer


@pytest.fixture(scope="module")
def model() -> Model:
    return writer()


def operated(name: str, model: Model, data: Dataset, **parameters: Any) -> tuple[Model, Receipt]:
    plan = Plan(operation=name, parameters=parameters, inputs=("a",), dataset="d", seed=3)
    outcome, receipt = run(plan, [model], data, Context(seed=3))
    return outcome.models[0], receipt


WORKING = {
    "prune": {"remove": [64, 65, 66], "epochs": 1},
    "compress": {"parameters": 0.7, "steps": 2, "tolerance": None, "slices": "no"},
    "self_compress": {"kilobytes": 7, "epochs": 2, "frozen": 1, "tolerance": 100},
    "damage": {"degree": 0.1},
}


@pytest.mark.parametrize("name", WORKING)
def test_it_becomes_smaller_and_still_writes(name: str, model: Model, pico_text: Dataset, tmp_path: Path) -> None:
    made, receipt = operated(name, model, pico_text, **WORKING[name])
    if name in ("prune", "compress"):
        assert sum(p.numel() for p in made.module.parameters()) < sum(p.numel() for p in model.module.parameters())
    if name == "self_compress":
        assert bytes_of(made) <= 7000 < bytes_of(model)
    loss = receipt.row("loss")
    assert loss is not None
    test = pico_text.ids("test")
    assert loss["after"] == pytest.approx(float(losses(made, pico_text, test, Context()).mean()), rel=1e-5)
    assert receipt.texts
    assert {"prompt", "before", "after"} == set(receipt.texts[0])
    page = to_html(receipt, name="v2", parent="v1", data=pico_text)
    assert "What it writes" in page
    assert "Loss per character" in page
    store.save(made, tmp_path / "made")
    x = made.input.example(3)
    with torch.no_grad():
        assert torch.equal(store.load(tmp_path / "made").module(x), made.module(x))


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("split", {}, "alphabet"),
        ("forget", {"classes": ["a"]}, "alphabet"),
        ("extend", {}, "alphabet"),
    ],
)
def test_what_does_not_work_on_texts_says_so(name: str, parameters: dict[str, Any], said: str, model: Model) -> None:
    problems = find(name).model_validate(parameters).check([model])
    assert said in " ".join(problems)


def test_a_plan_that_cannot_run_is_refused(model: Model, pico_text: Dataset) -> None:
    with pytest.raises(PlanError, match="alphabet"):
        operated("forget", model, pico_text, classes=["a"])


def test_every_character_is_learnt_from(pico_text: Dataset) -> None:
    start = writer(0)
    learned = tune(start, pico_text.without_test(), Context(), epochs=1, rate=1e-2, batch=32)
    with torch.no_grad():
        x = torch.stack([b[0][0] for b in pico_text.batches(pico_text.ids("val")[:8], start.input, size=1)])
        first = learned.module(x)[:, 2].softmax(-1).max() - start.module(x)[:, 2].softmax(-1).max()
    assert float(first) > 0.05, "early positions too became surer"


def test_a_scan_looks_at_the_last_character_and_tells_kinds_apart(model: Model, pico_text: Dataset) -> None:
    found = scan(model, pico_text, Context())
    assert found.classes == pico_text.groups
    index = model.index
    assert index is not None
    unit = int(index.layers["blocks.0.up"].rows[0])
    ids = pico_text.ids("train")
    seen: list[torch.Tensor] = []
    handle = model.module.get_submodule("blocks.0.down").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for x, _, _ in pico_text.batches(ids, model.input):
            model(x)
    handle.remove()
    own = torch.cat(seen)[:, :, 0]
    kinds = torch.from_numpy(pico_text.strata(ids))
    for number in range(len(found.classes)):
        if (kinds == number).any():
            assert float(found.mean[unit, number]) == pytest.approx(float(own[kinds == number, -1].mean()), abs=1e-5)
    assert float(found.means["blocks.0.down"][0]) == pytest.approx(float(own.mean()), abs=1e-5), "means: all positions"
    strongest = int(ids[int(own[:, -1].argmax())])
    assert int(found.top_sample[unit, 0]) == strongest


def test_the_hard_cases_are_the_least_likely_windows(model: Model, pico_text: Dataset) -> None:
    drawn = draw(model, pico_text, Context(), size=12, shares={"hard": 1.0})
    val = pico_text.ids("val")
    hardest = losses(model, pico_text, val, Context()).sort(descending=True).values[:12]
    own = losses(model, pico_text, np.array(sorted(drawn)), Context()).sort(descending=True).values
    assert torch.allclose(own, hardest, atol=1e-5)  # windows repeat themselves, so which ones is open
    mixed = draw(model, pico_text, Context(), size=12)
    assert {"hard", "typical", "diverse"} == set(mixed.values())
    rows = coverage(model, pico_text, sorted(mixed), Context())["rows"]
    assert {row["name"] for row in rows if row["kind"] == "class"} == set(pico_text.groups)


def test_new_texts_are_readapted_to_and_told_by_their_loss(model: Model, pico_text: Dataset) -> None:
    plan = Plan(operation="readapt", parameters={"epochs": 1, "tolerance": 100}, inputs=("a",), dataset="d", new="n")
    _, receipt = run(plan, [model], pico_text.with_new(pico_text), Context())
    row = receipt.row("new loss")
    assert row is not None
    old = receipt.row("loss")
    assert old is not None
    assert row["after"] == pytest.approx(old["after"]), "here the new text is the old one"


def test_broken_windows_are_shown_with_their_losses(model: Model, pico_text: Dataset) -> None:
    plan = Plan(
        operation="damage",
        parameters={"degree": 1.0},
        inputs=("a",),
        dataset="d",
        preserve=Cases(ids=tuple(pico_text.ids("val")[:9].tolist())),
    )
    _, receipt = run(plan, [model], pico_text, Context())
    assert receipt.breaks
    row = receipt.cases["broken"][0]
    assert answers(row, pico_text.classes) == "{:.2f} → {:.2f} nats".format(*row["losses"])
    page = to_html(receipt, name="v2", parent="v1", data=pico_text)
    assert "".join(pico_text.text(row["sample"])).replace("'", "&#x27;") in page


def test_every_head_shows_where_it_is_active(model: Model, pico_text: Dataset) -> None:
    index = model.index
    assert index is not None
    locator = Locator(model)
    x = next(iter(pico_text.batches(pico_text.ids("val")[:3], model.input)))[0]
    for layer in ("blocks.0.attention.q", "blocks.0.attention.v", "blocks.0.up"):
        found = locator.along(int(index.layers[layer].rows[1]), x)
        assert found is not None
        assert found.shape == x.shape
