"""Versions: lineage, undo with its proof, receipts, rename, trash, downloads."""

from __future__ import annotations

import time
import zipfile
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.workspace import Project, Version, Workspace
from tests.pages.conftest import OpenPage, failures, perceptron


def test_lineage_receipt_and_events_are_shown(open_page: OpenPage, project: Project) -> None:
    app = open_page("versions", project=project.id)
    assert failures(app) == []
    lineage, events = (frame.value for frame in app.dataframe)
    assert lineage["Version"].tolist() == ["v1 Original", "└─ v2 Pruned · current"]
    receipt = app.table[0].value
    assert receipt.iloc[0, :3].tolist() == ["Accuracy", "91.0 %", "90.0 %"]
    assert receipt.columns[1] == "v1 Original"
    assert any("committed version 2 'Pruned'" in what for what in events["What"])


def test_undo_is_proven_by_the_digest(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    app = open_page("versions", project=project.id)
    button(app, "Undo").click().run()
    assert ws.project(project.id).current == versions[0].id
    (proof,) = [box.value for box in app.success]
    assert proof.count(versions[0].digest) == 2
    button(app, "Redo").click().run()
    assert ws.project(project.id).current == versions[1].id


def test_a_changed_file_is_found_at_undo(open_page: OpenPage, project: Project, versions: list[Version]) -> None:
    weights = versions[0].folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    app = open_page("versions", project=project.id)
    button(app, "Undo").click().run()
    assert not app.success
    assert "have changed" in failures(app)[0]


def test_buttons_that_cannot_act_say_why(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    ws.undo(project.id)
    app = open_page("versions", project=project.id)
    assert button(app, "Undo").disabled
    assert "Nothing to undo" in button(app, "Undo").help
    assert button(app, "Move to trash").disabled
    assert "current" in button(app, "Move to trash").help


def test_any_version_can_be_made_current(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    app = open_page("versions", project=project.id, version=versions[0].id)
    button(app, "Make current").click().run()
    assert ws.project(project.id).current == versions[0].id
    assert app.success


def test_a_version_goes_to_the_trash_and_comes_back(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    app = open_page("versions", project=project.id, version=versions[0].id)
    button(app, "Move to trash").click().run()
    assert [version.id for version in ws.versions(project.id, trashed=True)] == [versions[0].id]
    button(app, "Restore").click().run()
    assert ws.versions(project.id, trashed=True) == []
    assert failures(app) == []
    ws.trash_version(versions[0].id)
    app.run()
    button(app, "Erase for good").click().run()
    assert [version.number for version in ws.versions(project.id)] == [2]
    assert not versions[0].folder.exists()
    assert "v2 Pruned · current" in app.dataframe[0].value["Version"].tolist()


def test_a_version_is_renamed(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    app = open_page("versions", project=project.id)
    app.text_input[0].input("Half the size")
    button(app, "Save name").click().run()
    assert ws.versions(project.id)[1].name == "Half the size"


def test_verify_finds_the_bytes_unchanged(open_page: OpenPage, project: Project) -> None:
    app = open_page("versions", project=project.id)
    button(app, "Verify").click().run()
    assert [toast.value for toast in app.toast] == ["The bytes on disk are those that were committed."]


def test_an_imported_version_has_no_receipt(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    app = open_page("versions", project=project.id, version=versions[0].id)
    assert any("shows its receipt here" in caption.value for caption in app.caption)


def test_an_export_is_prepared_by_a_job_and_downloaded(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    app = open_page("versions", project=project.id)
    app.button(key="prepare_safetensors").click().run()
    (job,) = jobs.jobs(ws, project.id)
    while jobs.status(ws, job.id).active:
        time.sleep(0.2)
    app.run()
    assert failures(app) == []
    with zipfile.ZipFile(jobs.status(ws, job.id).result["file"]) as archive:
        assert {"model.safetensors", "architecture.json", "loader.py"} <= set(archive.namelist())
    assert any(button.proto.label.startswith("Weights and loader") for button in app.get("download_button"))


@pytest.mark.parametrize("count", [1, 30])
def test_many_versions(open_page: OpenPage, ws: Workspace, project: Project, count: int) -> None:
    for number in range(count):
        ws.commit(project.id, perceptron(number), name=f"More {number}", make_current=False)
    app = open_page("versions", project=project.id)
    assert failures(app) == []
    assert len(app.dataframe[0].value) == 2 + count


def button(app: AppTest, label: str) -> Any:
    """The first button with this label."""
    return next(button for button in app.button if button.label == label)
