"""What every surgery promises, checked for all that are installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.gate import gate
from surgery.edit.shrink import shrink
from surgery.errors import Cancelled
from surgery.network import store
from surgery.network.certificate import relative, sample
from surgery.network.model import Model
from surgery.operations.base import Operation, operations
from surgery.plan import Plan, run
from surgery.receipt import Receipt
from surgery.receipt_html import to_html
from tests.conftest import SIDES
from tests.patients import digits, fleet, mlp, split_digits

pytestmark = pytest.mark.usefixtures("measured_here")


@dataclass
class Case:
    """A small but telling call of one operation."""

    parameters: Mapping[str, object] | Callable[[], Mapping[str, object]]
    models: Callable[[], list[Model]]
    new: str = ""  # the fixture of the new data that it learns from
    data: str = "pico_images"  # the fixture of its data


CASES = {
    "prune": Case({"remove": [0, 5], "epochs": 1}, lambda: [digits()]),
    "compress": Case(
        {"parameters": 0.6, "steps": 2, "tolerance": None, "slices": "theta", "theta": 0.9}, lambda: [digits()]
    ),
    "damage": Case({"degree": 0.5}, lambda: [digits()]),
    "readapt": Case({"share": 0.5, "epochs": 1, "tolerance": 100}, lambda: [digits()], new="pico_images"),
    "forget": Case({"classes": ["square"], "tolerance": 100, "epochs": 1}, lambda: [digits()]),
    "self_compress": Case({"epochs": 1, "frozen": 1, "looks": 2, "tolerance": 100}, lambda: [digits()]),
    "slim_mlp": Case(
        {"epochs": 1, "tolerance": 100, "steps": 2}, lambda: [replace(mlp(), classes=SIDES)], data="pico_table"
    ),
    "split": Case({"cycles": 1, "tolerance": 100}, lambda: [digits()]),
    "compose": Case(
        lambda: {"modules": [part.digest for part in split_digits().parts], "calibration": 5}, lambda: [split_digits()]
    ),
    "patch": Case({"target": "square"}, lambda: [digits(), split_digits()]),
    "share": Case({"agreement": 60}, lambda: [*fleet()], data="pico_many"),
    "extend": Case({"epochs": 1, "tolerance": 100, "healing": 0}, lambda: [digits()], new="pico_more"),
}


@pytest.fixture(params=sorted(operations()))
def name(request: pytest.FixtureRequest) -> str:
    assert request.param in CASES, f"write a case for the operation {request.param!r}"
    return request.param


@pytest.fixture
def data(name: str, request: pytest.FixtureRequest) -> Dataset:
    own: Dataset = request.getfixturevalue(CASES[name].data)
    new = CASES[name].new
    return own.with_new(request.getfixturevalue(new)) if new else own


def plan_of(name: str) -> Plan:
    given = CASES[name].parameters
    parameters = dict(given() if callable(given) else given)
    return Plan(operation=name, parameters=parameters, inputs=("a",), dataset="d", seed=5)


def state(model: Model) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.module.state_dict().items()}


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_it_introduces_itself(name: str) -> None:
    operation = operations()[name]
    assert operation.title
    assert operation.__doc__
    assert operation.__doc__ != Operation.__doc__
    for field in operation.model_fields.values():
        assert field.title, "fields are the form: each needs a title"
        assert field.description


def test_its_plan_survives_json(name: str) -> None:
    plan = plan_of(name)
    again = Plan.parse(plan.model_dump_json())
    assert again == plan
    assert again.build() == plan.build()


def test_it_leaves_its_inputs_alone_and_repeats(name: str, data: Dataset) -> None:
    models = CASES[name].models()
    before = [state(model) for model in models]
    first, _ = run(plan_of(name), models, data, Context(seed=5))
    second, _ = run(plan_of(name), models, data, Context(seed=5))
    assert all(equal(state(model), old) for model, old in zip(models, before, strict=True))
    assert equal(state(first.models[0]), state(second.models[0])), "same seed, same weights"


def test_it_never_sees_the_test_split(name: str, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    ids = Dataset.ids

    def watched(self: Dataset, role: str) -> object:
        opened.append(role)
        return ids(self, role)

    monkeypatch.setattr(Dataset, "ids", watched)
    operation = plan_of(name).build()
    operation.operate(CASES[name].models(), data.without_test(), Context(seed=5))
    assert "test" not in opened


def test_cancel_stops_it_within_one_step(name: str, data: Dataset) -> None:
    steps: list[object] = []
    ctx = Context(seed=5, report=steps.append, cancelled=lambda: len(steps) > 0)
    with pytest.raises(Cancelled):
        run(plan_of(name), CASES[name].models(), data, ctx)


def test_the_standard_rows_are_there(name: str, data: Dataset) -> None:
    outcome, receipt = run(plan_of(name), CASES[name].models(), data, Context(seed=5))
    metrics = {row["metric"] for row in receipt.table}
    assert {"accuracy", "agreement", "parameters", "bytes", "macs", "latency"} <= {m.lower() for m in metrics}
    accuracy = receipt.row("accuracy")
    assert accuracy is not None
    assert (accuracy["split"], accuracy["n"]) == ("test", len(data.fitting(outcome.models[0].classes).ids("test")))
    again = Receipt.from_json(json.loads(json.dumps(receipt.to_json())))
    assert again.table == receipt.table
    page = to_html(again, name="v2", parent="v1", data=data)
    assert "Accuracy" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_agreement_is_shown_with_the_input_and_with_the_original(name: str, data: Dataset) -> None:
    models = CASES[name].models()
    outcome, receipt = run(plan_of(name), models, data, Context(seed=5), original=models[0])
    if outcome.lent:  # the models of a fleet are the inputs; each is compared with itself
        scopes = [row["scope"] for row in receipt.table if row["metric"] == "agreement"]
        assert scopes == ["model 1", "model 2", "model 3", "overall"]
        return
    with_input, with_original = receipt.row("agreement"), receipt.row("agreement", "original")
    assert with_input is not None
    assert with_original is not None
    assert with_original["after"] == with_input["after"], "here both are the same model"
    assert with_original["before"] == 1.0


def test_its_outcome_can_be_saved_loaded_and_operated_on(name: str, data: Dataset, tmp_path: Path) -> None:
    outcome, _ = run(plan_of(name), CASES[name].models(), data, Context(seed=5))
    made = outcome.models[0]
    store.save(made, tmp_path / "v2")
    loaded = store.load(tmp_path / "v2")
    x = torch.randn(4, *made.input.shape)
    with torch.no_grad():
        assert torch.equal(loaded(x), made(x))
    keep = sample(loaded.index, 0.3)
    small, _ = shrink(loaded, keep)
    with torch.no_grad(), gate(loaded.module, loaded.index, keep.float()):
        assert relative(small(x), loaded(x)) <= 1e-5
    if outcome.kept is not None:
        assert len(outcome.kept) == loaded.index.n
