"""Candidates of a job: kept while it works, taken as versions, the best one saved when it is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.errors import NotFoundError
from surgery.jobs import Job, candidates
from surgery.jobs.local import LOCAL
from surgery.operations.base import Candidate
from surgery.plan import Plan
from surgery.workspace import Version, Workspace, queue
from tests.jobs.conftest import perform, wait_until
from tests.pages.patients import Patient, admit

WAY = {"parameters": 0.5, "steps": 3, "epochs": 0.5, "tolerance": None, "slices": "no", "twins": False}


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images, scanned=False)


def plan_of(patient: Patient, **changes: Any) -> dict[str, Any]:
    inputs, dataset = (patient.version.id,), patient.dataset.id
    plan = Plan(operation="compress", parameters={**WAY, **changes}, inputs=inputs, dataset=dataset, seed=3)
    return plan.model_dump(mode="json")


@pytest.fixture
def do(patient: Patient) -> Callable[..., Job]:
    """Run a task here, as a worker would."""
    return lambda kind, **given: perform(patient.ws, patient.project.id, kind, **given)


def weights(ws: Workspace, version: str) -> dict[str, torch.Tensor]:
    return dict(ws.model(version).module.state_dict())


def test_a_job_keeps_every_candidate_with_its_figures(patient: Patient, do: Callable[..., Job]) -> None:
    job = do("plan", plan=plan_of(patient))
    rows = candidates.listing(job)
    assert [row["candidate"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["accepted"] for row in rows)
    model, kept, parts = candidates.load(job, len(rows))
    assert parts == ()
    made = weights(patient.ws, job.result["version"])
    assert all(torch.equal(tensor, made[name]) for name, tensor in model.module.state_dict().items())
    assert kept is not None
    assert kept.tolist() == patient.ws.kept(job.result["version"])


def test_a_candidate_becomes_a_version_whose_plan_repeats_it(patient: Patient, do: Callable[..., Job]) -> None:
    ws = patient.ws
    job = do("plan", plan=plan_of(patient))
    taken = do("take", job=job.id, candidate=1, name="The first one")
    version: Version = ws.version(taken.result["version"])
    assert (version.name, version.parent, version.operation) == (
        "The first one",
        patient.version.id,
        "Compress to a size",
    )
    assert ws.plan(version.id) == plan_of(patient, candidate=1)
    receipt = ws.receipt(version.id)
    assert any(row["metric"] == "accuracy" and row["split"] == "test" for row in receipt["table"])
    again = do("plan", plan=ws.plan(version.id))
    old, new = weights(ws, version.id), weights(ws, again.result["version"])
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_a_candidate_that_is_not_there_is_refused(patient: Patient, do: Callable[..., Job]) -> None:
    job = do("plan", plan=plan_of(patient))
    with pytest.raises(NotFoundError, match="has no candidate 99"):
        jobs.take(patient.ws, job.id, 99)


def test_a_cancelled_job_leaves_its_best_candidate_as_an_unfinished_version(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, project = patient.ws, patient.project
    job = jobs.submit(
        ws, {"kind": "plan", "plan": plan_of(patient, steps=20, epochs=40)}, project=project.id, title="Compress"
    )
    wait_until(lambda: len(candidates.listing(jobs.status(ws, job.id))) >= 2, "two candidates")
    cancelled = jobs.cancel(ws, job.id, engine=LOCAL)
    assert cancelled.state == "cancelled"
    (taking,) = [one for one in jobs.jobs(ws, project.id) if one.kind == "take"]
    wait_until(lambda: not jobs.status(ws, taking.id).active, "the unfinished version is made")
    done = jobs.status(ws, taking.id)
    assert done.state == "done", done.reason
    version = ws.version(done.result["version"])
    assert version.name == "Compress (unfinished)"
    assert ws.project(project.id).current == patient.version.id, "it was not finished, so it does not become current"
    assert ws.plan(version.id)["parameters"]["candidate"] == candidates.best(cancelled)


def test_half_a_candidate_is_never_seen(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.network import store

    ws = patient.ws
    job = queue.add(ws.store, {"kind": "plan"}, project=patient.project.id, title="x", lane="long", device="", limit=60)
    job.folder.mkdir()
    keep = candidates.keeper(job)
    model = ws.model(patient.version.id)

    def broken(*_: object) -> str:
        raise OSError("the disk went away")

    monkeypatch.setattr(store, "save", broken)
    with pytest.raises(OSError, match="went away"):
        keep(Candidate(1, model, None, {"candidate": 1}, True))
    assert candidates.listing(job) == []
    assert list((job.folder / "candidates").glob(".*")) == []
    assert candidates.best(job) is None
