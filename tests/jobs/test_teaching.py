"""Teaching new classes as a job: its preview, its version with the old slice, that taken out, data put together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from surgery.data.dataset import Dataset
from surgery.errors import NotFoundError, PlanError
from surgery.jobs import candidates
from surgery.jobs.whatif import WhatIf
from surgery.plan import Plan
from surgery.workspace import DatasetRow, Workspace
from tests.jobs.conftest import perform
from tests.pages.patients import Patient, admit

GIVEN = {"epochs": 2, "healing": 1, "tolerance": 100}


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images, scanned=False)


@pytest.fixture
def more(patient: Patient, pico_more: Dataset) -> DatasetRow:
    """Two further classes."""

    def copied(folder: Path) -> Dataset:
        shutil.copytree(pico_more.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    return patient.ws.add_dataset(patient.project.id, "more", copied)


@pytest.fixture
def plan(patient: Patient, more: DatasetRow) -> Plan:
    return Plan(
        operation="extend", parameters=GIVEN, inputs=(patient.version.id,), dataset=patient.dataset.id, new=more.id
    )


def test_the_old_slice_comes_with_the_version_and_can_be_taken_out(patient: Patient, plan: Plan) -> None:
    ws, project = patient.ws, patient.project.id
    made = perform(ws, project, "plan", plan=plan.model_dump(mode="json")).result["version"]
    (part,) = ws.parts(made)
    neurons = ws.version(made).neurons
    assert ws.kept(made) == [*range(neurons - 2), -1, -1]
    assert part["of"] == neurons
    assert part["classes"] == list(ws.inspect(patient.version.id)["classes"])

    taken = perform(ws, project, "take_out", version=made, part=0).result["version"]
    assert ws.project(project).current == made, "taking out changes nothing"
    assert ws.version(taken).parent == made
    assert ws.kept(taken) == part["neurons"]
    alone, whole = ws.model(taken), ws.model(made)
    assert alone.classes == tuple(part["classes"])
    x = torch.randn(8, *alone.input.shape)
    with torch.no_grad():
        torch.testing.assert_close(alone(x), whole(x)[:, :3], rtol=0, atol=1e-5)
    both = perform(ws, project, "join", datasets=[plan.dataset, plan.new], name="both").result["dataset"]
    found = perform(ws, project, "compare", versions=[made, taken], dataset=both).result["receipt"]
    assert found["dataset"]["classes"] == part["classes"], "measured on what both know"
    assert perform(ws, project, "scan", version=taken, dataset=both, params={}).state == "done"
    assert WhatIf.open(ws, taken, both).whatif([0])["n"] > 0
    with pytest.raises(NotFoundError, match="has no part 1"):
        perform(ws, project, "take_out", version=made, part=1)
    assert ws.parts(patient.version.id) == []


def test_a_state_on_the_way_is_a_version_that_its_plan_repeats(patient: Patient, plan: Plan) -> None:
    ws, project = patient.ws, patient.project.id
    longer = plan.model_copy(update={"parameters": {**GIVEN, "epochs": 12}}).model_dump(mode="json")
    job = perform(ws, project, "plan", plan=longer)
    assert len(candidates.listing(job)) >= 2
    first = perform(ws, project, "take", job=job.id, candidate=1).result["version"]
    assert ws.parts(first) == ws.parts(job.result["version"])
    assert ws.plan(first)["parameters"]["candidate"] == 1
    again = perform(ws, project, "plan", plan=ws.plan(first)).result["version"]
    assert ws.version(again).digest == ws.version(first).digest


def test_datasets_put_together_have_all_classes(patient: Patient, more: DatasetRow) -> None:
    given = {"datasets": [patient.dataset.id, more.id], "name": "all drawings"}
    made = perform(patient.ws, patient.project.id, "join", **given).result["dataset"]
    assert patient.ws.dataset(made).classes == ("bars", "columns", "square", "cross", "frame")
    assert patient.ws.dataset_row(made).name == "all drawings"


def test_the_preview_tells_what_is_free_before_anything_is_trained(patient: Patient, plan: Plan) -> None:
    probe = WhatIf.open(patient.ws, patient.version.id, patient.dataset.id)
    answer = probe.preview(plan.model_dump(mode="json"))
    assert (answer["taught"], answer["known"]) == (["cross", "frame"], 3)
    assert 0 < answer["free"] <= 0.7
    assert sum(each["before"] - each["after"] for each in answer["layers"]) > 0
    assert set(answer["samples"].values()) == {21}
    assert answer["job_seconds"] > 0
    with pytest.raises(PlanError, match="learns from new data"):
        probe.preview(plan.model_copy(update={"new": ""}).model_dump(mode="json"))
