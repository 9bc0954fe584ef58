"""The Model tab: layers as boxes, quality with clickable mistakes, doubts about the data, the file for other tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from surgery.data.dataset import Dataset
from surgery.jobs.whatif import WhatIf
from surgery.ui import layer_boxes, model_quality, scans
from surgery.workspace import Workspace
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place
from tests.patience import SECONDS

OpenPage = Callable[..., AppTest]


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images)


def tab(patient: Patient, **query: str) -> AppTest:
    """The tab alone, as its page draws it."""

    def script() -> None:
        from surgery.ui import model_tab, scans, state

        view = state.current()
        seen = scans.of(view)
        assert seen is not None
        model_tab.show(view, seen)

    app = AppTest.from_function(script, default_timeout=SECONDS)
    app.query_params.update({**patient.link, **query})
    return app.run()


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption])


def probe_of(patient: Patient) -> WhatIf:
    return WhatIf.open(patient.ws, patient.version.id, patient.dataset.id)


def test_the_tab_shows_layers_quality_and_the_file(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_in_place(monkeypatch)
    app = tab(patient)
    assert not failures(app)
    assert {request["what"] for request in asked} == {"quality", "wiring"}
    assert len(app.get("plotly_chart")) == 2
    answer = probe_of(patient).answer({"what": "quality"})
    assert f"% right** on val, n = {answer['n']}" in texts(app)
    assert any(button.label == "Prepare: ONNX" for button in app.button)
    assert "Find slices" in texts(app), "nobody has scored the neurons yet"
    assert any("may not be what the model was made for" in warning.value for warning in app.warning), "random weights"


def test_a_cell_of_the_confusion_matrix_shows_its_samples(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_in_place(monkeypatch)
    answer = probe_of(patient).answer({"what": "quality"})
    truth, said = next((t, a) for t, row in enumerate(answer["confusion"]) for a, n in enumerate(row) if n)
    app = tab(patient, confusion=str(truth * len(answer["classes"]) + said))
    assert not failures(app)
    count = answer["confusion"][truth][said]
    assert f"{count} sample" in texts(app)
    assert len(answer["cells"][f"{truth},{said}"]) == min(count, 24)


def test_quality_is_that_of_the_answers(patient: Patient) -> None:
    probe = probe_of(patient)
    found = probe.answer({"what": "quality"})
    answers = probe.recording.outputs.argmax(1).numpy()
    truth = patient.ws.dataset(patient.dataset.id).labels(probe.probes.ids)
    assert found["accuracy"] == pytest.approx((answers == truth).mean())
    for place, row in enumerate(found["classes"]):
        assert row["n"] == (truth == place).sum() == sum(found["confusion"][place])
        if row["recall"] is not None:
            assert row["recall"] == pytest.approx((answers[truth == place] == place).mean())
        if row["precision"] is not None:
            assert row["precision"] == pytest.approx((truth[answers == place] == place).mean())
    losses = [row["loss"] for row in found["worst"]]
    assert losses == sorted(losses, reverse=True) and found["split"] == "val"


@pytest.mark.parametrize(
    ("accuracy", "confidence", "warned"),
    [(0.97, 0.95, False), (0.14, 0.95, True), (0.9, 0.3, True)],
)
def test_data_of_another_domain_is_doubted(accuracy: float, confidence: float, warned: bool) -> None:
    found: dict[str, Any] = {"labelled": True, "accuracy": accuracy, "chance": 0.11, "n": 300}
    said = model_quality.doubt(found | {"confidence": confidence, "outputs": 10})
    assert bool(said) == warned
    if warned:
        assert f"{100 * accuracy:.1f}%" in said and "chance" not in said and "11.0%" in said and "10.0%" in said


def test_without_labels_only_low_confidence_counts() -> None:
    found: dict[str, Any] = {"labelled": False, "outputs": 10, "n": 300}
    assert "mean confidence 20.0%" in model_quality.doubt(found | {"confidence": 0.2})
    assert not model_quality.doubt(found | {"confidence": 0.9})
    assert not model_quality.doubt({"labelled": True, "n": 3}), "a regression names no classes"


def test_blocks_fold_where_there_are_many_layers() -> None:
    names = [f"stage{s}.{b}.conv{c}" for s in range(3) for b in range(5) for c in range(2)]
    inside = layer_boxes.folded(names, ())
    assert len(set(inside)) == 15 and inside[0] == "stage0.0"
    assert len(set(layer_boxes.folded(names, {"stage0.0"}))) == 16
    assert layer_boxes.folded(names[:4], ()) == names[:4]
    table = layer_boxes.boxes(
        [{"name": name, "kind": "conv", "neurons": 2, "parameters": 3, "macs": 4} for name in names], inside, {}
    )
    assert table["parameters"].tolist() == [6] * 15 and table["value"].isna().all()
    boxes = table["name"].tolist()
    assert layer_boxes.joined([(-1, 0), (0, 1), (1, 2)], inside, boxes) == [(-1, 0), (0, 1)]


def test_a_box_has_the_neurons_of_its_layers_and_sensitivity_is_read(patient: Patient) -> None:
    seen = scans.read(patient.ws, patient.version.id, patient.dataset.id)
    assert seen is not None and layer_boxes.sensitivity(seen) is None
    layers = seen.table.loc[~seen.table["logit"], "layer"].unique().tolist()
    assert set(layer_boxes.neurons(seen, layers)) == set(seen.ids)
    table = pd.DataFrame({"id": seen.ids, "loss_change": 0.5, "tested": [True, *[False] * (len(seen.ids) - 1)]})
    table.to_parquet(seen.folder / layer_boxes.SENSITIVITY)
    found = layer_boxes.sensitivity(seen)
    assert found is not None and set(found.values()) == {0.5}
    assert set(found) <= set(layers)


def outputs_of(patient: Patient) -> dict[str, Any]:
    return probe_of(patient).answer({"what": "quality"})


def test_a_regression_shows_its_largest_errors(
    ws: Workspace, pico_targets: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_in_place(monkeypatch)
    patient = admit(ws, pico_targets)
    found = outputs_of(patient)
    truth, answer, loss = (found["worst"][0][name] for name in ("truth", "answer", "loss"))
    assert loss == pytest.approx((truth - answer) ** 2) and found["mse"] > 0
    app = tab(patient)
    assert not failures(app)
    assert "R² " in texts(app) and "Largest errors" in texts(app)
    assert len(app.get("plotly_chart")) == 1, "no confusion matrix"
