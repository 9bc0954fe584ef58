"""The page Similarity: layers side by side, shares looked for and made, a fleet watched and taken back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.context import Context
from surgery.data import drift
from surgery.data.dataset import Dataset
from surgery.plan import Plan
from surgery.workspace import Version, Workspace
from surgery.workspace.rows import Fleet
from tests.jobs.conftest import perform
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place
from tests.pages.test_change import button, texts
from tests.patients import fleet

OpenPage = Callable[..., AppTest]

pytestmark = pytest.mark.usefixtures("measured_here")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    return answer_in_place(monkeypatch)


@pytest.fixture
def patient(ws: Workspace, pico_many: Dataset) -> Patient:
    return admit(ws, pico_many, scanned=False)


@pytest.fixture
def members(patient: Patient) -> list[Version]:
    """Three models that were brought: two of common descent and a stranger."""
    names = ("one", "two", "other")
    return [
        patient.ws.commit(patient.project.id, model, name=name, make_current=name == "one")
        for name, model in zip(names, fleet(), strict=True)
    ]


def link(patient: Patient, members: list[Version], **query: str) -> dict[str, Any]:
    return {**patient.link, "members": [one.id for one in members], **query}


def test_one_model_alone_shows_the_way(open_page: OpenPage, patient: Patient) -> None:
    page = open_page("similarity", **patient.link)
    assert failures(page) == []
    assert "One model alone has nobody to share with" in page.info[0].value
    assert button(page, "Bring another model")


def test_layers_are_compared_and_a_cell_shows_what_both_tell_apart(
    open_page: OpenPage, patient: Patient, members: list[Version], asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("similarity", **link(patient, members))
    assert failures(page) == []
    question = next(one for one in asked if one["what"] == "similar")
    assert question == {"what": "similar", "other": members[1].id, "metric": "cka"}
    assert "it sees no order" in texts(page) or "Similarity sees no order of channels" in texts(page)
    cuts = page.dataframe[0].value
    assert cuts["cut"].tolist() == ["stem", "down", "block", "top"]
    assert cuts["representation"].tolist()[0] == "8 × 8 × 8"
    page = open_page("similarity", **link(patient, members, similar="5", metric="Profiles of the classes"))
    assert failures(page) == []
    question = next(one for one in asked if one["what"] == "responses")
    assert question["layers"] == ["down", "down"]
    assert "carries" in texts(page)
    assert "What goes together, left with right (correlation): 1 with" in texts(page)


def test_shares_are_looked_for_made_and_refused_with_a_reason(
    open_page: OpenPage, patient: Patient, members: list[Version], asked: list[Mapping[str, Any]]
) -> None:
    ws, project = patient.ws, patient.project.id
    page = open_page("similarity", **link(patient, members, look="share"))
    assert failures(page) == []
    assert "Look for shares to see" in page.info[0].value
    page.number_input(key="share_agreement").set_value(96.0).run()
    button(page, "Look for shares").click().run()
    (queued,) = [job for job in jobs.jobs(ws, project) if job.kind == "propose_shares"]
    assert queued.task["plan"]["inputs"] == [one.id for one in members]
    assert queued.task["plan"]["parameters"]["agreement"] == 96.0
    jobs.cancel(ws, queued.id)

    plan = {**queued.task["plan"], "parameters": {**queued.task["plan"]["parameters"], "agreement": 97.0}}
    perform(ws, project, "propose_shares", plan=plan)
    page = open_page("similarity", **link(patient, members, look="share"))
    assert failures(page) == []
    said = texts(page)
    assert "less" in said
    assert "agrees with itself on" in said
    table = page.dataframe[0].value
    assert {"chosen", "refused"} <= set(table["verdict"])
    assert table[table["verdict"] == "refused"]["reason"].str.contains("points below").any()
    ticks = [box for box in page.checkbox if "goes on at" in box.label]
    assert len(ticks) == 2
    ticks[0].uncheck().run()
    button(page, "Make 1 share").click().run()
    made = next(job for job in jobs.jobs(ws, project) if job.kind == "plan")
    assert len(made.task["plan"]["parameters"]["shares"]) == 1
    assert made.task["name"] in ("v3 on v2", "v4 on v2")
    jobs.cancel(ws, made.id)


@pytest.fixture
def shared(patient: Patient, members: list[Version]) -> Fleet:
    plan = Plan(operation="share", inputs=tuple(one.id for one in members), dataset=patient.dataset.id)
    job = perform(patient.ws, patient.project.id, "plan", plan=plan.model_dump(mode="json"), name="Edge")
    return patient.ws.fleet(job.result["fleet"])


def test_a_fleet_shows_memory_members_and_the_way_back(
    open_page: OpenPage, patient: Patient, members: list[Version], shared: Fleet
) -> None:
    ws = patient.ws
    page = open_page("similarity", **link(patient, members, look="fleets"))
    assert failures(page) == []
    assert "2 models go on from another" in texts(page)
    assert "lends to v3 two, v4 other" in texts(page).replace("\\", "")
    page.button(key="back_v4 other").click().run()
    assert ws.fleet(shared.id).back == ("v4 other",)
    assert "was taken back: runs as it was" in texts(page)
    page.button(key="again_v4 other").click().run()
    assert ws.fleet(shared.id).back == ()
    page.button(key="replay").click().run()
    queued = next(job for job in jobs.jobs(ws, patient.project.id) if job.kind == "replay")
    assert queued.task["datasets"] == [patient.dataset.id]
    jobs.cancel(ws, queued.id)
    page = open_page("similarity", **link(patient, members, look="fleets"))
    page.button(key="delete_fleet").click().run()
    assert ws.fleets(patient.project.id) == []
    assert "No models of this project share yet" in page.info[0].value
    page.button(key=f"restore_{shared.id}").click().run()
    assert [one.id for one in ws.fleets(patient.project.id)] == [shared.id]


def test_a_replay_tells_who_was_taken_back(
    open_page: OpenPage, patient: Patient, members: list[Version], shared: Fleet, pico_many: Dataset
) -> None:
    ws, project = patient.ws, patient.project.id

    def bright(folder: Any) -> Dataset:
        drift.make(
            pico_many, folder, lambda ids: drift.drifted(pico_many, ids, "brightness", 1.0), Context(), name="bright"
        )
        return Dataset.open(folder)

    later = ws.add_dataset(project, "Over-exposed", bright)
    perform(ws, project, "replay", fleet=shared.id, datasets=[patient.dataset.id, later.id], share=1.0)
    page = open_page("similarity", **link(patient, members, look="fleets"))
    assert all("was taken back after" in said for said in failures(page))
    assert any("was taken back after" in error.value for error in page.error)
    assert any("It answers bit for bit as before" in error.value for error in page.error)
    assert any("took back" in json.dumps(frame.value.to_dict(), default=str) for frame in page.table)


def test_a_share_that_nobody_passes_says_why(
    open_page: OpenPage, patient: Patient, members: list[Version], asked: list[Mapping[str, Any]]
) -> None:
    two = [members[0], members[2]]
    page = open_page("similarity", **link(patient, two, look="share"))
    page.toggle(key="share_adapters").set_value(False).run()
    button(page, "Look for shares").click().run()
    queued = next(job for job in jobs.jobs(patient.ws, patient.project.id) if job.kind == "propose_shares")
    jobs.cancel(patient.ws, queued.id)
    perform(patient.ws, patient.project.id, "propose_shares", plan=queued.task["plan"])
    page.run()
    assert failures(page) == []
    assert any("No share passes" in warning.value and "points below" in warning.value for warning in page.warning)
