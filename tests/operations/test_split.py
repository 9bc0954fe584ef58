"""Split: every method gives one module per class that says what its mask says, and bad input is refused in words."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.compose import cut_out, proven
from surgery.edit.gate import gate
from surgery.edit.heads import restored
from surgery.edit.tune import tune
from surgery.errors import Cancelled, DataError, SelectionError, TraceError
from surgery.network.model import Model
from surgery.operations import learned
from surgery.operations.base import Outcome
from surgery.operations.split import MOST, Split
from surgery.plan import Plan, run
from surgery.tell import tell
from surgery.workspace import Workspace
from tests import pico
from tests.patients import digits

CTX = Context(seed=0)
METHODS = {
    "semantic": {"cycles": 1},
    "gradient": {"cycles": 4, "rate": 0.3, "pressure": 0.5},
    "genetic": {"generations": 3, "population": 6},
}


@pytest.fixture(scope="module")
def trained(pico_images: Dataset) -> Model:
    return tune(digits((8, 12, 16)), pico_images, Context(seed=1), epochs=60, rate=1e-2)


@pytest.fixture(scope="module", params=METHODS)
def outcome(request: pytest.FixtureRequest, trained: Model, pico_images: Dataset) -> Outcome:
    plan = Split(method=request.param, tolerance=15, **METHODS[request.param])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned, "FIRST_EPOCHS", 200)  # of one batch each
        return plan.operate([trained], pico_images.without_test(), CTX)


def test_there_is_a_module_for_each_class_and_together_they_answer(outcome: Outcome, trained: Model) -> None:
    assert [part.classes for part in outcome.parts] == [(name,) for name in trained.classes]
    assert outcome.models[0] is trained
    assert outcome.assembled is not None
    steps = outcome.tables["steps"]
    (chosen,) = steps[steps["chosen"]].to_dict("records")
    assert chosen["lost points"] <= 15
    shares = [part.figures["share"] for part in outcome.parts]
    assert sum(shares) / len(shares) == pytest.approx(chosen["neurons"])
    assert min(shares) < 1.0


def test_a_module_taken_out_says_what_its_mask_says(outcome: Outcome, trained: Model, pico_images: Dataset) -> None:
    x = next(iter(pico_images.batches(pico_images.ids("val"), trained.input)))[0]
    answers = []
    for part in outcome.parts:
        trained.index.check(part.keep)
        with torch.no_grad(), gate(trained.module, trained.index, part.keep.float(), part.means):
            masked = trained(x)
        with torch.no_grad():
            torch.testing.assert_close(cut_out(trained, part)(x), masked, rtol=1e-5, atol=1e-5)
            answers.append(restored(part.head)(masked))
    with torch.no_grad():
        torch.testing.assert_close(outcome.assembled(x), torch.cat(answers, dim=1), rtol=1e-4, atol=1e-5)


def test_its_figures_are_those_of_the_validation_samples(
    outcome: Outcome, trained: Model, pico_images: Dataset
) -> None:
    ids = pico_images.ids("val")
    x, y, _ = next(iter(pico_images.batches(ids, trained.input)))
    with torch.no_grad():
        score = outcome.assembled(x)
    for k, part in enumerate(outcome.parts):
        found, own = score[:, k] > part.figures["threshold"], y == k
        assert part.figures["recall"] == pytest.approx(float(found[own].double().mean()))
        right = float((found & own).sum())
        assert part.figures["precision"] == pytest.approx(right / max(float(found.sum()), 1))
    assert outcome.tables["modules"]["class"].tolist() == list(trained.classes)
    overlap = outcome.tables["overlap"]
    assert overlap.loc["bars", "bars"] == 1.0
    assert overlap.loc["bars", "square"] == overlap.loc["square", "bars"]


def test_taking_a_rival_out_never_costs_the_others(outcome: Outcome) -> None:
    table = outcome.tables["interdependence"]
    assert (table.to_numpy() >= 0).all()
    assert table.loc["bars", "bars"] == 0.0


def test_the_receipt_measures_all_modules_together(trained: Model, pico_images: Dataset) -> None:
    plan = Plan(operation="split", parameters={"cycles": 0, "tolerance": 20}, inputs=("a",), dataset="d")
    made, receipt = run(plan, [trained], pico_images, CTX)
    rows = {row["metric"]: row for row in receipt.table if row["scope"] == "overall"}
    assert rows["parameters"]["before"] == sum(p.numel() for p in trained.module.parameters())
    assert rows["parameters"]["after"] > 0
    assert rows["agreement"]["n"] == len(pico_images.ids("test"))
    assert "parameters" in tell(receipt).headline
    assert len(made.parts) == 3


def test_modules_lie_in_their_version(trained: Model, pico_images: Dataset, tmp_path: Path) -> None:
    made = Split(cycles=0, tolerance=20).operate([trained], pico_images.without_test(), CTX)
    ws = Workspace(tmp_path)
    project = ws.create_project("trial")
    version = ws.commit(project.id, trained, name="split", parts=made.parts)
    again = ws.model(version.id).parts
    assert [part.digest for part in again] == [part.digest for part in made.parts]
    assert [row["name"] for row in ws.parts(version.id)] == list(trained.classes)


def test_cancelled_half_way_it_leaves_the_model_alone(trained: Model, pico_images: Dataset) -> None:
    before = {name: tensor.clone() for name, tensor in trained.module.state_dict().items()}
    stages: list[object] = []
    ctx = Context(
        report=lambda event: stages.append(event.get("stage")),
        cancelled=lambda: any("learning masks" in str(stage) for stage in stages),
    )
    with pytest.raises(Cancelled, match="learning masks"):
        Split(cycles=2).operate([trained], pico_images.without_test(), ctx)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.module.state_dict().items())
    assert all(parameter.requires_grad for parameter in trained.module.parameters())


def test_a_network_without_convolution_is_told_what_to_use() -> None:
    (problem,) = Split().check([pico.pico_model(pico.mlp(), (4,))])
    assert "no convolution" in problem
    assert "Slices" in problem


def test_regressions_and_very_many_classes_are_refused() -> None:
    assert "Only a classifier" in Split().check([replace(digits(), task="regression")])[0]
    many = replace(digits(), classes=tuple(str(k) for k in range(MOST + 1)))
    assert f"at most {MOST}" in Split().check([many])[0]


def test_a_class_without_samples_is_named(trained: Model, pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="has no train samples of square"):
        Split().on(trained, pico_images.without_test().fitting(("bars", "columns")), CTX)
    with pytest.raises(TraceError, match="no convolution"):
        Split().on(pico.pico_model(pico.mlp(), (4,)), pico_images, CTX)


def test_a_module_keeps_samples_that_must_hold_whenever_it_is_used(outcome: Outcome, trained: Model) -> None:
    for part in outcome.parts:
        assert len(part.proof["x"]) == len(part.proof["score"]) > 3
        cut = proven(trained, part)
        with torch.no_grad():
            torch.testing.assert_close(restored(part.head)(cut(part.proof["x"]))[:, 0], part.proof["score"])
    damaged = copy.deepcopy(trained.module)
    with torch.no_grad():
        damaged.stem.conv.weight *= 1.5
    with pytest.raises(SelectionError, match="no longer says what it said of its 9 own samples"):
        proven(replace(trained, module=damaged), outcome.parts[0])
