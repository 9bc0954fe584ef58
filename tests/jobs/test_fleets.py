"""Sharing as a job: from a plan to a fleet, a replay that takes a guest back, a bundle."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from surgery.context import Context
from surgery.data import drift
from surgery.data.dataset import Dataset
from surgery.errors import JobError, NotFoundError
from surgery.network import fleet_store
from surgery.plan import Plan
from surgery.receipt import Receipt
from surgery.receipt_html import to_html
from surgery.tell import tell
from surgery.workspace import DatasetRow, Project, Version, Workspace
from surgery.workspace.rows import Fleet
from tests.jobs.conftest import perform
from tests.patients import fleet, ignorant

pytestmark = pytest.mark.usefixtures("measured_here")


@pytest.fixture
def data(ws: Workspace, project: Project, pico_many: Dataset) -> DatasetRow:
    def make(folder: Path) -> Dataset:
        shutil.copytree(pico_many.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    return ws.add_dataset(project.id, "drawings", make)


@pytest.fixture
def bright(ws: Workspace, project: Project, pico_many: Dataset) -> DatasetRow:
    def make(folder: Path) -> Dataset:
        drift.make(
            pico_many, folder, lambda ids: drift.drifted(pico_many, ids, "brightness", 1.0), Context(), name="bright"
        )
        return Dataset.open(folder)

    return ws.add_dataset(project.id, "over-exposed", make)


@pytest.fixture
def versions(ws: Workspace, project: Project) -> list[Version]:
    return [
        ws.commit(project.id, model, name=name) for name, model in zip(("one", "two", "other"), fleet(), strict=True)
    ]


@pytest.fixture
def shared(ws: Workspace, project: Project, data: DatasetRow, versions: list[Version]) -> Fleet:
    plan = Plan(operation="share", inputs=tuple(one.id for one in versions), dataset=data.id)
    job = perform(ws, project.id, "plan", plan=plan.model_dump(mode="json"), name="Edge device")
    return ws.fleet(job.result["fleet"])


def test_a_plan_of_sharing_makes_a_fleet_and_no_version(
    ws: Workspace, project: Project, versions: list[Version], shared: Fleet
) -> None:
    assert shared.name == "Edge device"
    assert list(shared.members) == ["v1 one", "v2 two", "v3 other"]
    assert dict(shared.hosts) == {"v2 two": "v1 one", "v3 other": "v1 one"}
    assert [one.id for one in ws.versions(project.id)] == [one.id for one in versions]
    receipt = Receipt.from_json(ws.fleet_document(shared.id, "receipt"))
    memory = receipt.row("weights in memory")
    assert memory is not None
    saved = ws.fleet_table(shared.id).query("chosen")["saved"].sum()
    assert memory["before"] - memory["after"] == saved
    assert "weights in memory" in tell(receipt).headline
    page = to_html(receipt, name="Edge device", parent="v1")
    assert "v3 other" in page
    assert "<script" not in page


def test_a_drifting_replay_takes_a_guest_back(
    ws: Workspace, project: Project, data: DatasetRow, bright: DatasetRow, shared: Fleet
) -> None:
    still = perform(ws, project.id, "replay", fleet=shared.id, datasets=[data.id, data.id], share=1.0)
    assert still.result["events"] == []
    assert still.result["inputs"] == 2 * data.samples, "a stream may come twice"
    assert ws.fleet(shared.id).back == ()
    job = perform(ws, project.id, "replay", fleet=shared.id, datasets=[data.id, bright.id], share=1.0)
    gone = {event["guest"] for event in job.result["events"]}
    assert gone
    assert all(event["identical"] for event in job.result["events"])
    assert set(ws.fleet(shared.id).back) == gone
    assert any("took back" in event.what and "fell below" in event.what for event in ws.events(project.id))


def test_a_replay_needs_somebody_to_watch(ws: Workspace, project: Project, data: DatasetRow, shared: Fleet) -> None:
    with pytest.raises(JobError, match="datasets: it has 0 entries; the least is 1"):
        perform(ws, project.id, "replay", fleet=shared.id, datasets=[])
    with pytest.raises(JobError, match="share: 2 is too large; the most is 1"):
        perform(ws, project.id, "replay", fleet=shared.id, datasets=[data.id], share=2)
    for guest in shared.hosts:
        ws.take_back(shared.id, guest)
    with pytest.raises(JobError, match="Nobody shares in fleet 1 'Edge device' now"):
        perform(ws, project.id, "replay", fleet=shared.id, datasets=[data.id])


def test_it_can_be_taken_away_as_a_zip(ws: Workspace, project: Project, shared: Fleet) -> None:
    job = perform(ws, project.id, "export_fleet", fleet=shared.id)
    with zipfile.ZipFile(job.result["file"]) as archive:
        names = set(archive.namelist())
    assert {"loader.py", "definition.py", "definition_sample.py", "architecture.json", "model.safetensors"} <= names


def test_a_guest_that_is_back_is_whole_in_the_bundle(
    ws: Workspace, project: Project, shared: Fleet, tmp_path: Path
) -> None:
    before = zipped(perform(ws, project.id, "export_fleet", fleet=shared.id).result["file"], tmp_path / "before")
    ws.take_back(shared.id, "v3 other")
    after = zipped(perform(ws, project.id, "export_fleet", fleet=shared.id).result["file"], tmp_path / "after")
    assert set(before["arguments"]["shares"]) == {"v2 two", "v3 other"}
    assert set(after["arguments"]["shares"]) == {"v2 two"}
    assert after["bytes"] > before["bytes"]
    assert set(fleet_store.load(tmp_path / "after").shares) == {"v2 two"}


def zipped(file: str, target: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(target)
    found: dict[str, Any] = json.loads((target / "architecture.json").read_text())
    return found


def test_members_are_versions_of_one_project(ws: Workspace, project: Project, data: DatasetRow) -> None:
    other = ws.create_project("Other")
    inputs = [ws.commit(id, fleet()[0], name="Original").id for id in (project.id, other.id)]
    plan = Plan(operation="share", inputs=tuple(inputs), dataset=data.id)
    with pytest.raises(NotFoundError, match="Version 1 'Original' belongs to another project"):
        perform(ws, project.id, "propose_shares", plan=plan.model_dump(mode="json"))


def test_a_guest_that_breaks_must_keep_cases_runs_as_it_was(
    ws: Workspace, project: Project, data: DatasetRow, versions: list[Version], pico_many: Dataset
) -> None:
    """A share that nobody should make, forced: the host knows nothing."""
    host = ws.commit(project.id, ignorant(fleet()[0]), name="ignorant")
    plan = Plan(
        operation="share",
        parameters={
            "shares": [{"host": 0, "cut": "top", "guest": 1, "at": "top"}],
            "agreement": 0,
            "adapt": False,
            "worst": 0,
            "divergence": 1000,
            "adapters": False,
        },
        inputs=(host.id, versions[1].id),
        dataset=data.id,
        preserve=tuple(int(i) for i in pico_many.ids("val")),
    )
    job = perform(ws, project.id, "plan", plan=plan.model_dump(mode="json"))
    made = ws.fleet(job.result["fleet"])
    receipt = Receipt.from_json(ws.fleet_document(made.id, "receipt"))
    assert receipt.breaks
    assert made.back == ("v2 two",)
