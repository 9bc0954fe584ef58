"""Hard ground for understanding a model: what is there is told truly, what cannot be told is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from surgery.analysis.criticality import criticality
from surgery.analysis.neurons import neurons
from surgery.analysis.scan import scan
from surgery.analysis.slices import levels
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.errors import DataError, ModelError
from surgery.measure.sensitivity import Sensitivity
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace

pytestmark = pytest.mark.hostile
FEATURES = 6


def perceptron(classes: tuple[str, ...], edit: Callable[[list[Tensor]], object] = len) -> Model:
    """6 → 9 → 7 → C with random weights, which `edit` may spoil: weight, bias, weight, bias …"""
    torch.manual_seed(0)
    architecture = Architecture("mlp", {"sizes": [FEATURES, 9, 7, len(classes)]})
    module = build(architecture).eval()
    with torch.no_grad():
        edit(list(module.parameters()))
    index, support = trace(module, torch.zeros(1, FEATURES), verify=False)
    spec = InputSpec("table", (FEATURES,), (0.0,) * FEATURES, (1.0,) * FEATURES)
    return Model(module, architecture, spec, "classification", classes, index, support)


def table(folder: Path, classes: tuple[str, ...], labels: np.ndarray) -> Dataset:
    x = np.random.default_rng(0).normal(size=(len(labels), FEATURES)).astype(np.float32)
    features = tuple(f"f{k}" for k in range(FEATURES))
    return from_arrays(folder, x, labels, classes=classes, name="d", task="classification", features=features)


def everything(model: Model, data: Dataset) -> dict[str, Tensor]:
    """All that is computed on the way to the pages, as tensors."""
    found = scan(model, data, Context())
    scored = criticality(model, data, found, Context(), fill="mean")
    tables = {f"level {name}": levels(model, data, found, score, Context()) for name, score in scored.scores.items()}
    measured = Sensitivity(model, data.without_test(), Context(), means=found.means)
    measured.run()
    named = neurons(model, found)
    assert set(named.loc[named["point"], "name_kind"]) <= {"class", "concept", "unclear", "dead", "constant", "neutral"}
    harm = torch.as_tensor(measured.table.loc[measured.table["tested"], "loss_change"].to_numpy().copy())
    return {"mean": found.mean, "var": found.var, **scored.scores, "harm": harm} | {
        name: torch.where(level == torch.inf, 0.0, level) for name, level in tables.items()
    }


CLASSES = tuple("abcde")


def test_a_class_absent_from_the_data_has_no_scores_and_hides_no_other(tmp_path: Path) -> None:
    data = table(tmp_path / "d", CLASSES, np.arange(80) % 4)
    found = everything(perceptron(CLASSES), data)
    assert all(bool(torch.isfinite(part).all()) for part in found.values())
    assert bool((found["taylor"][:, 4] == 0).all())
    assert bool((found["taylor"][:, :4].sum(0) > 0).all())


def test_one_sample_of_each_class_is_an_identifier(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="single sample"):
        table(tmp_path / "d", CLASSES, np.arange(5))


def test_two_samples_of_a_class_are_enough_to_look_and_too_few_to_name(tmp_path: Path) -> None:
    data = table(tmp_path / "d", CLASSES, np.arange(10) % 5)
    found = scan(perceptron(CLASSES), data, Context())
    kinds = set(neurons(perceptron(CLASSES), found).query("point")["name_kind"])
    assert kinds <= {"unclear", "dead", "constant"}


def silent(parameters: list[Tensor]) -> None:
    parameters[0].zero_()
    parameters[1].fill_(-1.0)


def constant(parameters: list[Tensor]) -> None:
    parameters[0].zero_()
    parameters[1].fill_(0.5)


@pytest.mark.parametrize(("edit", "kind"), [(silent, "dead"), (constant, "constant")])
def test_a_layer_that_gives_the_same_on_every_sample(
    tmp_path: Path, edit: Callable[[list[Tensor]], object], kind: str
) -> None:
    model, data = perceptron(CLASSES, edit), table(tmp_path / "d", CLASSES, np.arange(60) % 5)
    assert all(bool(torch.isfinite(part).all()) for part in everything(model, data).values())
    named = neurons(model, scan(model, data, Context()))
    assert set(named.loc[named["layer"] == "0", "name_kind"]) == {kind}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_traced_to_its_layer(tmp_path: Path, value: float) -> None:
    def spoil(parameters: list[Tensor]) -> None:
        parameters[2][3, 1] = value

    data = table(tmp_path / "d", CLASSES, np.arange(60) % 5)
    with pytest.raises(ModelError, match="What layer '4' receives is NaN or infinite"):
        scan(perceptron(CLASSES, spoil), data, Context())


def test_two_classes_of_one_name_stay_two(tmp_path: Path) -> None:
    names = ("a", "a", "b")
    found = scan(perceptron(names), table(tmp_path / "d", names, np.arange(60) % 3), Context())
    assert found.count.tolist() == [found.count[0]] * 3
    assert found.classes == names
