"""The page Modules: what lies on the shelf, a patch previewed and submitted, the way to forget a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.operations.split import Split
from surgery.workspace import Version, Workspace
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place
from tests.pages.test_change import button, texts
from tests.patients import split_digits

OpenPage = Callable[..., AppTest]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    return answer_in_place(monkeypatch)


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    """A project whose network of random weights knows no class well."""
    return admit(ws, pico_images, scanned=False)


@pytest.fixture
def strong(patient: Patient, pico_images: Dataset) -> Version:
    """A better network beside it, split into modules."""
    model = split_digits()
    made = Split(cycles=0, tolerance=10).operate([model], pico_images.without_test(), Context())
    return patient.ws.commit(
        patient.project.id, model, name="Strong", parts=made.parts, tables=made.tables, make_current=False
    )


def test_an_empty_shelf_shows_the_way_to_splitting(open_page: OpenPage, patient: Patient) -> None:
    page = open_page("modules", **patient.link)
    assert failures(page) == []
    assert "No model of this project was split yet" in page.info[0].value
    button(page, "Split a model").click().run()
    assert page.selectbox(key="operation").value == "split"


def test_the_shelf_shows_every_module_with_its_figures(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("modules", **patient.link)
    assert failures(page) == []
    for part in patient.ws.parts(strong.id):
        assert page.checkbox(key=f"pick_{strong.id}.{part['name']}").label == f"**{part['name']}**"
        assert f"precision {100 * part['figures']['precision']:.1f}%" in texts(page)
    as_table = open_page("modules", **patient.link, shelf="Table")
    (frame,) = (found.value for found in as_table.dataframe)
    assert frame["class"].tolist() == ["bars", "columns", "square"]
    assert frame["version"].unique().tolist() == [f"v{strong.number} Strong"]


def test_a_patch_is_previewed_with_its_risk_and_submitted_with_both_versions(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("modules", **patient.link, target="square")
    assert failures(page) == []
    plan = next(one["plan"] for one in reversed(asked) if one["what"] == "preview")
    assert plan["inputs"] == [patient.version.id, strong.id]
    digest = next(part["digest"] for part in patient.ws.parts(strong.id) if part["name"] == "square")
    assert plan["parameters"]["target"] == "square"
    assert plan["parameters"]["module"] == digest
    assert "F1 of square" in texts(page)
    assert "other class loses F1" in texts(page) or "Largest drop" in texts(page)
    table = page.table[0].value.set_index("Metric")
    now, after = (
        float(str(table.at["F1 of square", column]).replace("\\", "").rstrip("%")) for column in ("Now", "After")
    )
    assert after > now
    button(page, "Patch square with v2").click().run()
    (job,) = jobs.jobs(patient.ws, patient.project.id)
    assert job.task["plan"]["inputs"] == [patient.version.id, strong.id]
    jobs.cancel(patient.ws, job.id)


def test_without_a_donor_it_says_so(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("modules", **patient.link, version=strong.id)
    assert failures(page) == []
    assert any("No other version has a module that could answer" in info.value for info in page.info)


def test_a_link_names_donor_and_limit(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]]
) -> None:
    second = patient.ws.commit(
        patient.project.id,
        split_digits(),
        name="Strong too",
        parts=patient.ws.model(strong.id).parts,
        make_current=False,
    )
    chosen = f"{second.id}.square"
    page = open_page("modules", **patient.link, target="square", donor=chosen, others="2.0")
    assert failures(page) == []
    plan = next(one["plan"] for one in reversed(asked) if one["what"] == "preview")
    assert plan["inputs"] == [patient.version.id, second.id]
    assert plan["parameters"]["others"] == 2.0


def test_a_class_of_another_name_finds_its_donor(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]], pico_images: Dataset
) -> None:
    model = split_digits()
    made = Split(cycles=0, tolerance=10).operate([model], pico_images.without_test(), Context())
    parts = [replace(part, name=f"my {part.name}", classes=(f"my {part.name}",)) for part in made.parts]
    renamed = replace(model, classes=tuple(part.name for part in parts))
    patient.ws.commit(patient.project.id, renamed, name="Strong", parts=parts, make_current=False)
    page = open_page("modules", **patient.link, target="square")
    assert failures(page) == []
    plan = next(one["plan"] for one in reversed(asked) if one["what"] == "preview")
    assert plan["parameters"]["called"] == "my square", "the best of all on these samples"
    assert "F1 of square" in texts(page)


def test_a_class_can_be_forgotten_from_its_card(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("modules", **patient.link)
    page.button(key=f"forget_{strong.id}.columns").click().run()
    assert failures(page) == []
    assert page.multiselect(key=f"forget_{strong.id}_classes").value == ["columns"]
    assert any(found.label == "Forget columns" for found in page.button)


def test_splitting_is_previewed(open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]) -> None:
    page = open_page("change", **patient.link, operation="Take it apart: Split into modules")
    assert failures(page) == []
    assert asked[-1]["plan"]["operation"] == "split"
    assert "3 modules, one for each class" in texts(page)
    button(page, "Split into 3 modules").click().run()
    (job,) = jobs.jobs(patient.ws, patient.project.id)
    assert job.task["plan"]["operation"] == "split"
    jobs.cancel(patient.ws, job.id)


def test_a_slice_left_by_teaching_is_no_module(open_page: OpenPage, patient: Patient) -> None:
    from surgery.network.part import Part

    model = split_digits()
    part = Part("old task", torch.ones(model.index.n, dtype=torch.bool), model.classes)
    patient.ws.commit(patient.project.id, model, name="Taught", parts=(part,), make_current=False)
    page = open_page("modules", **patient.link)
    assert "No model of this project was split yet" in page.info[0].value


def test_modules_are_picked_previewed_together_and_composed(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]], pico_images: Dataset
) -> None:
    page = open_page("modules", **patient.link)
    assert "Tick the classes of the new model" in texts(page)
    for name in ("bars", "square"):
        page.checkbox(key=f"pick_{strong.id}.{name}").check().run()
    assert failures(page) == []
    assert page.query_params["module"] == [f"{strong.id}.bars", f"{strong.id}.square"]
    plan = next(one["plan"] for one in reversed(asked) if one["plan"]["operation"] == "compose")
    digests = {part["name"]: part["digest"] for part in patient.ws.parts(strong.id)}
    assert plan["inputs"] == [strong.id]
    assert plan["parameters"]["modules"] == [digests["bars"], digests["square"]]
    own = pico_images.fitting(("bars", "square"))
    assert f"right on {len(own.ids('val'))} val samples of 2 classes" in texts(page)
    assert "the model they come from has" in texts(page)
    button(page, "Compose 2 modules").click().run()
    (job,) = jobs.jobs(patient.ws, patient.project.id)
    assert job.task["plan"] == plan
    jobs.cancel(patient.ws, job.id)


def test_the_best_of_each_class_is_proposed_and_all_can_be_put_back(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("modules", **patient.link)
    button(page, "Best of each class").click().run()
    assert sorted(page.query_params["module"]) == [f"{strong.id}.{name}" for name in ("bars", "columns", "square")]
    assert page.checkbox(key=f"pick_{strong.id}.columns").value
    page.button(key="pick_none").click().run()
    assert "module" not in page.query_params
    assert failures(page) == []


def test_what_only_the_picked_modules_need_can_be_pruned(
    open_page: OpenPage, patient: Patient, strong: Version, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("modules", **patient.link)
    page.checkbox(key=f"pick_{strong.id}.columns").check().run()
    parts = {part["name"]: set(part["neurons"]) for part in patient.ws.parts(strong.id)}
    alone = sorted(parts["columns"] - parts["bars"] - parts["square"])
    assert alone
    page.button(key="prune_only").click().run()
    assert failures(page) == []
    (saved,) = patient.ws.selections(patient.project.id)
    assert (saved.name, list(saved.ids)) == ("Only needed by columns", alone)
    assert asked[-1]["plan"]["operation"] == "prune"
    assert asked[-1]["plan"]["inputs"] == [strong.id]
