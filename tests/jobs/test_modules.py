"""Splitting, taking out and patching as jobs, with their previews."""

from __future__ import annotations

import pytest
import torch

from surgery.data.dataset import Dataset
from surgery.edit.gate import gate
from surgery.edit.heads import restored
from surgery.errors import PlanError, SelectionError
from surgery.jobs.whatif import WhatIf
from surgery.plan import Plan
from surgery.workspace import Workspace
from tests.jobs.conftest import perform
from tests.pages.patients import Patient, admit
from tests.patients import split_digits


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    """Weights that know the drawings, so that they can be split."""
    found = admit(ws, pico_images, scanned=False)
    strong = ws.commit(found.project.id, split_digits(), name="Strong")
    return Patient(ws, found.project, strong, found.dataset)


@pytest.fixture
def split(patient: Patient) -> str:
    """The version that holds its modules."""
    plan = Plan(
        operation="split",
        parameters={"cycles": 0, "tolerance": 10},
        inputs=(patient.version.id,),
        dataset=patient.dataset.id,
    )
    done = perform(patient.ws, patient.project.id, "plan", plan=plan.model_dump(mode="json"))
    return str(done.result["version"])


def test_the_version_holds_its_modules_and_their_tables(patient: Patient, split: str) -> None:
    ws = patient.ws
    assert [part["name"] for part in ws.parts(split)] == ["bars", "columns", "square"]
    assert all(part["figures"]["f1"] > 0.5 for part in ws.parts(split))
    assert ws.table(split, "overlap").shape == (3, 3)
    assert ws.version(split).neurons == patient.version.neurons
    sizes = next(row for row in ws.receipt(split)["table"] if row["metric"] == "parameters")
    assert sizes["after"] != sizes["before"], "measured are the modules together"


def test_a_module_taken_out_answers_as_its_mask_does(patient: Patient, split: str, pico_images: Dataset) -> None:
    ws = patient.ws
    taken = perform(ws, patient.project.id, "take_out", version=split, part=2).result["version"]
    assert ws.project(patient.project.id).current == split, "taking out changes nothing"
    alone, whole = ws.model(taken), ws.model(split)
    part = whole.parts[2]
    assert alone.classes == ("square", "another")
    x = next(iter(pico_images.batches(pico_images.ids("val"), whole.input)))[0]
    with torch.no_grad(), gate(whole.module, whole.index, part.keep.float(), part.means):
        score = restored(part.head)(whole(x))[:, 0] - part.figures["threshold"]
    with torch.no_grad():
        torch.testing.assert_close(alone(x)[:, 0], score, rtol=1e-4, atol=1e-5)
    kept = [old for old in ws.kept(taken) if old >= 0]
    assert sorted(kept) == (part.keep | whole.index.fixed).nonzero()[:, 0].tolist()


def test_donors_are_ranked_by_what_they_say_of_the_patients_samples(patient: Patient, split: str) -> None:
    ws = patient.ws
    probe = WhatIf.open(ws, patient.version.id, patient.dataset.id)
    asked = [{"version": split, "digest": part["digest"]} for part in ws.parts(split)]
    told = probe.answer({"what": "donors", "target": "square", "modules": [*asked, {**asked[0], "digest": "none"}]})
    best, *others = told["rows"]
    own = ws.parts(split)[2]
    assert best["digest"] == own["digest"]
    assert best["f1"] == pytest.approx(own["figures"]["f1"], abs=1e-6), "the same samples, the same threshold"
    assert all(row["f1"] < best["f1"] for row in others)
    assert "no module none" in others[-1]["problem"]
    with pytest.raises(SelectionError, match="does not know"):
        probe.answer({"what": "donors", "target": "circle", "modules": asked})


def test_a_patch_that_the_job_would_refuse_says_so_before(patient: Patient, split: str) -> None:
    probe = WhatIf.open(patient.ws, patient.version.id, patient.dataset.id)
    parameters = {"target": "square", "module": patient.ws.parts(split)[0]["digest"]}
    plan = {"operation": "patch", "parameters": parameters, "inputs": [patient.version.id, split]}
    told = probe.answer({"what": "preview", "plan": plan})
    assert "does not help 'square'" in told["refusal"], "the module of another class"


def test_what_will_happen_is_told_before(patient: Patient, split: str) -> None:
    probe = WhatIf.open(patient.ws, patient.version.id, patient.dataset.id)
    plan = {"operation": "split", "parameters": {}}
    told = probe.answer({"what": "preview", "plan": plan})
    assert told["modules"] == 3
    assert told["job_seconds"] > 0
    patch = {"operation": "patch", "parameters": {"target": "square"}, "inputs": [patient.version.id]}
    with pytest.raises(PlanError, match="needs a second version"):
        probe.answer({"what": "preview", "plan": patch})
    told = probe.answer({"what": "preview", "plan": {**patch, "inputs": [patient.version.id, split]}})
    assert told["patched"] == "square"
    assert {"precision", "recall", "f1", "others"} == told["before"].keys() == told["after"].keys()
    digests = [part["digest"] for part in patient.ws.parts(split)[:2]]
    compose = {"operation": "compose", "parameters": {"modules": digests}, "inputs": [split]}
    told = probe.answer({"what": "preview", "plan": compose})
    assert told["composed"] == ["bars", "columns"]
    assert told["sources"]["number"] == 1
