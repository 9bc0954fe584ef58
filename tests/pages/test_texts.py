"""A language model on every page: import, neurons with their windows, must-keep windows, writing, before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.jobs import work
from surgery.ui.pictures import Shown, heated, passages
from surgery.workspace import Workspace
from tests.conftest import sentences
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place
from tests.pages.test_change import button, texts
from tests.patients import writer

OpenPage = Callable[..., AppTest]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    return answer_in_place(monkeypatch)


@pytest.fixture
def patient(ws: Workspace, pico_text: Dataset) -> Patient:
    return admit(ws, pico_text)


def html(app: AppTest) -> str:
    return "\n".join(part.proto.body for part in app.get("html"))


def test_a_text_is_imported_in_windows_of_the_models_context(open_page: OpenPage, ws: Workspace) -> None:
    project = ws.create_project("Stories")
    ws.commit(project.id, writer(), name="Writer")
    page = open_page("model_data", project=project.id)
    page.file_uploader[0].upload("story.txt", sentences().encode(), "text/plain").run()
    assert failures(page) == []
    assert "Text for a model of characters" in texts(page)
    window = next(field for field in page.number_input if field.label == "Context window (characters)")
    assert window.value == 12, "what the model reads"
    button(page, "Import dataset").click().run()
    (job,) = [job for job in jobs.jobs(ws, project.id) if job.kind == "import_data"]
    assert job.task["context"] == 12
    jobs.cancel(ws, job.id)


def test_bare_weights_ask_for_their_alphabet(open_page: OpenPage, ws: Workspace, pico_text: Dataset) -> None:
    patient = admit(ws, pico_text, scanned=False)
    page = open_page("model_data", **patient.link, another="model")
    weights = save({name: tensor.contiguous() for name, tensor in writer().module.state_dict().items()})
    page.file_uploader[0].upload("writer.safetensors", weights, "application/octet-stream").run()
    (looking,) = [job for job in jobs.jobs(ws, patient.project.id) if job.kind == "inspect_model"]
    jobs.cancel(ws, looking.id)
    path = Path(looking.task["path"])
    task = {
        "path": str(path),
        "name": "Writer",
        "architecture": {"name": "text/decoder", "arguments": dict(writer().architecture.arguments)},
        "input": {"kind": "text", "shape": [12], "mean": [], "std": []},
        "classes": list(pico_text.classes),
    }
    looking = jobs.jobs(ws, patient.project.id)[0]
    work.import_model(ws, _with(looking, task), Context())
    made = ws.versions(patient.project.id)[-1]
    assert ws.model(made.id).input.alphabet == pico_text.classes


def _with(job: Any, task: dict[str, Any]) -> Any:
    from dataclasses import replace

    return replace(job, task=task)


def test_a_neuron_shows_the_windows_it_is_strongest_on(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    unit = int(patient.ws.model(patient.version.id).index.layers["blocks.0.up"].rows[3])
    page = open_page("neurons", **patient.link, neurons=str(unit))
    assert failures(page) == []
    assert {"what": "regions", "neuron": unit} in [{k: q[k] for k in ("what", "neuron") if k in q} for q in asked]
    assert html(page).count('data-region="map"') == 9, "every character coloured, window by window"
    for tab in ("Why", "Connections", "Statistics"):
        assert failures(open_page("neurons", **patient.link, neurons=str(unit), tab=tab)) == []


def test_it_writes_after_a_beginning_of_ones_own(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("neurons", **patient.link, tab="Model")
    field = next(area for area in page.text_area if area.label == "Beginning")
    field.set_value("a dog ran.\nthe c")
    button(page, "Write").click().run()
    assert failures(page) == []
    assert asked[-1]["what"] == "write"
    assert "it reads the last 12" in texts(page)
    assert "data-written" in html(page)
    next(area for area in page.text_area if area.label == "Beginning").set_value("a dög")
    button(page, "Write").click().run()
    assert "does not know 'ö'" in page.error[0].value


def test_windows_with_a_phrase_are_pinned(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("must_keep", **patient.link, phrase="no bird")
    assert failures(page) == []
    labels = [field.label for field in page.number_input]
    assert "At least of each class" not in labels
    ticked = [box for box in page.checkbox if box.key.startswith("phrase_")]
    assert ticked
    assert all(box.value for box in ticked)
    next(found for found in page.button if found.key == "by_phrase").click().run()
    state = patient.ws.must_keep(patient.dataset.id)[0]
    data = patient.ws.dataset(patient.dataset.id)
    assert len(state.pinned) == len(ticked)
    assert all("no bird" in "".join(data.text(sample)) for sample in state.pinned)
    page = open_page("must_keep", **patient.link, phrase="walrus")
    assert "No window of validation or training contains it" in texts(page)
    assert "No surgery may make one of these much less likely" in texts(page)


def test_before_and_after_shows_both_texts(open_page: OpenPage, patient: Patient) -> None:
    child = patient.operate([64, 65, 66, 67])
    page = open_page("compare", **patient.link)
    assert failures(page) == []
    receipt = patient.ws.receipt(child.id)
    assert receipt is not None
    assert receipt["texts"]
    assert html(page).count("data-written") == 2 * len(receipt["texts"])
    table = page.table[0].value.set_index("Metric")
    assert "nats" in table.at["Loss per character", "v1"]
    assert "Perplexity" in table.index


def test_few_bits_say_what_they_guard(open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]) -> None:
    val = patient.ws.dataset(patient.dataset.id).ids("val").tolist()
    patient.ws.save_must_keep(patient.dataset.id, dict.fromkeys(val[:5], "pinned"))
    page = open_page("change", **patient.link, operation="Make it smaller: Compress to few bits")
    assert failures(page) == []
    assert "5 must-keep windows guard it: their likelihood per character must stay at" in texts(page)


def test_what_is_made_of_classes_is_not_offered(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link)
    goals = page.selectbox(key="operation").options
    assert "Make it smaller: Compress to few bits" in goals
    assert "Make it smaller: Remove neurons" in goals
    assert not [goal for goal in goals if "classes" in goal or "modules" in goal]
    assert failures(open_page("slices", **patient.link)) == []
    page = open_page("modules", **patient.link)
    assert not page.exception


def test_windows_are_escaped_and_coloured(pico_text: Dataset) -> None:
    drawn = passages(pico_text, [Shown(0, "<b>")])
    assert "&lt;b&gt;" in drawn
    assert "<b>" not in drawn
    assert heated("<a", [0.0, 1.0]).count("<span") == 3
    assert "&lt;" in heated("<a", [0.0, 1.0])
