"""The page Change: the form makes a plan, the preview tells what the operation will do, Run submits exactly that."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.errors import JobError
from surgery.jobs.whatif import WhatIf
from surgery.network.model import Support
from surgery.plan import Plan
from surgery.ui import preview
from surgery.workspace import Job, Workspace
from tests.jobs.conftest import perform
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place

OpenPage = Callable[..., AppTest]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    return answer_in_place(monkeypatch)


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images, scanned=False)


@pytest.fixture
def page(open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]) -> AppTest:
    saved = patient.ws.save_selection(patient.project.id, patient.version.id, "weak ones", [0, 5, 6])
    return open_page("change", **patient.link, selection=saved.id)


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption])


def button(app: AppTest, start: str) -> Any:
    return next(found for found in app.button if found.label.startswith(start))


def planned(asked: list[Mapping[str, Any]]) -> dict[str, Any]:
    return dict(asked[-1]["plan"])


def test_it_opens_filled_in_with_the_linked_selection(
    page: AppTest, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    assert failures(page) == []
    plan = planned(asked)
    assert plan["operation"] == "prune"
    assert plan["parameters"]["remove"]["ids"] == [0, 5, 6]
    assert (plan["inputs"], plan["dataset"]) == ([patient.version.id], patient.dataset.id)


def test_the_preview_says_what_the_operation_will_do(page: AppTest, patient: Patient) -> None:
    plan = {"operation": "prune", "parameters": {"remove": {"ids": [0, 5, 6]}}}
    answer = WhatIf.open(patient.ws, patient.version.id, patient.dataset.id).preview(plan)
    where = f"{len(answer['layers'])} layer{'s' if len(answer['layers']) > 1 else ''}"
    assert f"#### 3 neurons asked → {answer['removed']} removed in {where}" in texts(page)
    assert any(found.label == f"Remove {answer['removed']} neurons in {where}" for found in page.button)
    table = page.table[0].value.set_index("Metric")
    (parameters,) = [row for row in answer["sizes"] if row["metric"] == "parameters"]
    assert table.at["Parameters", "After"] == f"{parameters['after']:,.0f}"
    assert table.at["Accuracy", "Measured on"] == f"validation, n = {answer['n']}"


def test_a_preview_that_fails_can_be_asked_for_again_and_the_plan_run_without_it(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any) -> dict[str, Any]:
        raise JobError("The probe did not answer within 120 s.", "Try again.")

    whole = preview._ask
    monkeypatch.setattr(preview, "_ask", broken)
    saved = patient.ws.save_selection(patient.project.id, patient.version.id, "weak", [0, 5])
    app = open_page("change", **patient.link, selection=saved.id)
    assert "The probe did not answer" in failures(app)[0]
    assert button(app, "Remove neurons without a preview")
    monkeypatch.setattr(preview, "_ask", whole)
    button(app, "Try the preview again").click().run()
    assert failures(app) == []
    assert "removed in" in texts(app)


def test_the_form_has_a_widget_for_every_parameter_and_changes_the_plan(
    page: AppTest, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    key = f"prune_{patient.version.id}"
    page.number_input(key=f"{key}_epochs").set_value(3).run()
    page.button_group(key=f"{key}_fill").set_value("zero").run()
    plan = planned(asked)
    assert (plan["parameters"]["epochs"], plan["parameters"]["fill"]) == (3, "zero")


def test_the_seed_and_the_device_are_part_of_the_plan(page: AppTest, asked: list[Mapping[str, Any]]) -> None:
    page.number_input(key="seed").set_value(7).run()
    assert (planned(asked)["seed"], planned(asked)["device"]) == (7, "cpu")


def test_run_submits_the_previewed_plan_and_names_the_job_in_the_url(
    page: AppTest,
    asked: list[Mapping[str, Any]],
    running: Callable[..., Job],
    patient: Patient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submitted: list[tuple[Mapping[str, Any], str]] = []

    def submit(ws: Workspace, task: Mapping[str, Any], *, project: str, title: str) -> Job:
        submitted.append((task, title))
        return running(project, title)

    monkeypatch.setattr(jobs, "submit", submit)
    remove = button(page, "Remove")
    remove.click().run()
    assert failures(page) == []
    ((task, title),) = submitted
    assert task["kind"] == "plan"
    assert Plan.model_validate(task["plan"]) == Plan.model_validate(planned(asked))
    assert title == remove.label
    assert "a" * 10 in str(page.query_params["job"])
    assert any(found.label == "Cancel" for found in page.button)


def test_a_failed_job_says_why_and_can_be_tried_again(
    open_page: OpenPage, patient: Patient, running: Callable[..., Job], finish: Callable[..., None]
) -> None:
    job = running(patient.project.id)
    finish(job, "failed", "worker was killed (signal 9)")
    page = open_page("change", **patient.link, job=job.id)
    assert any("signal 9" in text for text in failures(page))
    assert any(found.label == "Try again" for found in page.button)


def test_with_nothing_chosen_there_is_one_action_to_the_map(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link, operation="Make it smaller: Remove neurons")
    assert failures(page) == []
    assert asked == []
    button(page, "Choose neurons").click().run()
    assert "### Neurons" in texts(page)


def test_a_selection_that_empties_a_layer_is_refused_with_the_layer_named(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    every = list(range(patient.version.neurons - 3))
    saved = patient.ws.save_selection(patient.project.id, patient.version.id, "all", every)
    page = open_page("change", **patient.link, selection=saved.id)
    (text,) = [found for found in failures(page) if "at least one must stay" in found.replace("\\", "")]
    assert "layer" in text
    assert not any(found.label.startswith("Remove") for found in page.button)


def test_a_selection_of_another_version_is_carried_over(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    saved = patient.ws.save_selection(patient.project.id, patient.version.id, "kept", [1, 6])
    made = patient.operate([0])
    open_page("change", **patient.link, selection=saved.id)
    here, _lost = patient.ws.map_selection(saved.id, made.id)
    assert planned(asked)["parameters"]["remove"]["ids"] == here
    assert here != [1, 6]


def test_an_unknown_job_in_the_link_is_ignored(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link, job="0123456789")
    assert failures(page) == []
    assert "job" not in page.query_params


def test_a_network_that_cannot_be_cut_says_why(
    ws: Workspace, open_page: OpenPage, pico_images: Dataset, asked: list[Mapping[str, Any]]
) -> None:
    patient = admit(ws, pico_images, scanned=False, support=Support("gate", "the step view of Literal"))
    page = open_page("change", **patient.link)
    assert failures(page) == []
    assert "the step view of Literal" in page.warning[0].value
    assert not any(found.label.startswith("Remove") for found in page.button)


FIT = "Fit new data: Readapt to new data"
TEACH = "Teach it more: Teach new classes"


def test_with_no_neurons_in_hand_compressing_comes_first(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link)
    assert failures(page) == []
    assert planned(asked)["operation"] == "compress"
    assert any(found.label.startswith("Compress to ") for found in page.button)
    assert "neurons go in" in texts(page)
    assert "hardly worth a change" in texts(page)
    page.number_input(key=f"compress_{patient.version.id}_parameters").set_value(0.7).run()
    assert planned(asked)["parameters"]["parameters"] == 0.7


def test_a_size_that_cannot_be_reached_says_how_small_it_can_get(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link)
    page.number_input(key=f"compress_{patient.version.id}_parameters").set_value(0.01).run()
    assert any("cannot get that small" in text for text in failures(page))
    assert not any(found.label.startswith("Compress to ") for found in page.button)


def test_without_new_data_there_is_the_way_to_bring_some_or_to_make_a_trial(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link, operation=FIT)
    assert failures(page) == []
    assert asked == []
    assert {"Bring new data", "Make a drifted copy"} <= {found.label for found in page.button}
    button(page, "Make a drifted copy").click().run()
    (job,) = jobs.jobs(patient.ws, patient.project.id)
    assert (job.kind, job.task["change"], job.task["strength"]) == ("drift", "noise", 0.5)
    jobs.cancel(patient.ws, job.id)


def test_new_data_is_previewed_and_named_in_the_plan(
    open_page: OpenPage, patient: Patient, pico_images: Dataset, asked: list[Mapping[str, Any]]
) -> None:
    def copied(folder: Path) -> Dataset:
        shutil.copytree(pico_images.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    later = patient.ws.add_dataset(patient.project.id, "later", copied)
    page = open_page("change", **patient.link, operation=FIT)
    assert failures(page) == []
    plan = planned(asked)
    assert (plan["operation"], plan["new"]) == ("readapt", later.id)
    assert page.query_params["new"] in (later.id, [later.id])
    assert "No class is worse on the new data" in texts(page)
    assert any(found.label.startswith("Readapt: train ") for found in page.button)


def test_new_classes_are_previewed_and_the_data_that_has_them_comes_first(
    open_page: OpenPage,
    patient: Patient,
    pico_images: Dataset,
    pico_more: Dataset,
    asked: list[Mapping[str, Any]],
) -> None:
    def copied(source: Dataset) -> Callable[[Path], Dataset]:
        return lambda folder: Dataset.open(Path(shutil.copytree(source.folder, folder, dirs_exist_ok=True)))

    page = open_page("change", **patient.link, operation=TEACH)
    assert failures(page) == []
    assert "Bring new data" in {found.label for found in page.button}
    assert "Make a drifted copy" not in {found.label for found in page.button}

    more = patient.ws.add_dataset(patient.project.id, "more", copied(pico_more))
    patient.ws.add_dataset(patient.project.id, "later", copied(pico_images))
    page = open_page("change", **patient.link, operation=TEACH)
    assert failures(page) == []
    plan = planned(asked)
    assert (plan["operation"], plan["new"]) == ("extend", more.id)
    assert re.search("2 new classes beside the 3 it knows.*: cross, frame", texts(page))
    assert re.search(r"(At least \d+\.\d% of the neurons are|no neuron is) free", texts(page))
    assert any(found.label == "Teach 2 new classes" for found in page.button)


def test_after_teaching_the_datasets_can_be_put_together(
    open_page: OpenPage, patient: Patient, pico_more: Dataset, asked: list[Mapping[str, Any]]
) -> None:
    ws, project = patient.ws, patient.project.id

    def copied(folder: Path) -> Dataset:
        return Dataset.open(Path(shutil.copytree(pico_more.folder, folder, dirs_exist_ok=True)))

    more = ws.add_dataset(project, "more", copied)
    plan = Plan(
        operation="extend",
        parameters={"epochs": 1, "healing": 0, "tolerance": 100},
        inputs=(patient.version.id,),
        dataset=patient.dataset.id,
        new=more.id,
    )
    job = perform(ws, project, "plan", plan=plan.model_dump(mode="json"))
    page = open_page("change", **patient.link, job=job.id)
    assert failures(page) == []
    button(page, "Put both datasets together").click().run()
    joining = max(jobs.jobs(ws, project), key=lambda job: job.number)
    assert (joining.kind, joining.task["datasets"]) == ("join", [patient.dataset.id, more.id])
    jobs.cancel(ws, joining.id)

    page = open_page("versions", **patient.link, version=job.result["version"])
    assert failures(page) == []
    assert "Holds the slice of bars, columns, square, exactly" in texts(page)
    button(page, "Take it out as a version").click().run()
    taking = max(jobs.jobs(ws, project), key=lambda job: job.number)
    assert (taking.kind, taking.task["part"]) == ("take_out", 0)
    jobs.cancel(ws, taking.id)


def test_classes_to_forget_are_chosen_previewed_and_kept_in_the_link(
    open_page: OpenPage, patient: Patient, pico_images: Dataset, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link, operation="Forget: Forget classes")
    assert failures(page) == []
    assert asked == []
    assert not any(found.label.startswith("Forget") for found in page.button)
    page.multiselect(key=f"forget_{patient.version.id}_classes").set_value(["columns"]).run()
    assert failures(page) == []
    assert planned(asked)["parameters"]["classes"] == ["columns"]
    assert page.query_params["class"] in ("columns", ["columns"])
    assert any(found.label == "Forget columns" for found in page.button)
    assert "All figures are of the classes that stay" in texts(page)
    table = page.table[0].value.set_index("Metric")
    ids = pico_images.ids("val")
    stay = int((pico_images.labels(ids) != 1).sum())
    assert table.at["Accuracy", "Measured on"] == f"validation, n = {stay}"

    again = open_page("change", **patient.link, operation="Forget: Forget classes", **{"class": "bars"})
    assert any(found.label == "Forget bars" for found in again.button)
    again.multiselect(key=f"forget_{patient.version.id}_classes").set_value(["bars", "columns"]).run()
    assert any("At least two classes must stay" in text for text in failures(again))


def test_damage_for_a_trial_is_previewed_and_can_be_run(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("change", **patient.link, operation="Try it out: Damage for a trial")
    assert failures(page) == []
    assert planned(asked)["operation"] == "damage"
    assert "worse on purpose" in texts(page)
    button(page, "Damage by degree 0.5").click().run()
    (job,) = jobs.jobs(patient.ws, patient.project.id)
    assert job.task["plan"]["operation"] == "damage"
    jobs.cancel(patient.ws, job.id)
