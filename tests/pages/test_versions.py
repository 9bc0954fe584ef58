"""Versions: lineage, undo with its proof, receipts, rename, trash, downloads."""

from __future__ import annotations

import copy
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.ui import all_versions
from surgery.ui.export import int8_said
from surgery.workspace import Project, Version, Workspace
from tests.pages.conftest import OpenPage, failures, perceptron
from tests.pages.patients import admit


def test_lineage_receipt_and_events_are_shown(open_page: OpenPage, project: Project) -> None:
    app = open_page("versions", project=project.id)
    assert failures(app) == []
    lineage, events = (frame.value for frame in app.dataframe)
    assert lineage["Version"].tolist() == ["v1 Original", "└─ v2 Pruned · current"]
    receipt = app.table[0].value
    assert receipt.iloc[0, :3].tolist() == ["Accuracy", "92.9%", "85.7%"]
    assert receipt.columns[1] == "v1 Original"
    assert any("committed version 2 'Pruned'" in what for what in events["What"])


def test_undo_is_proven_by_the_digest(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    app = open_page("versions", project=project.id)
    button(app, "Undo: back to v1").click().run()
    assert ws.project(project.id).current == versions[0].id
    (proof,) = [box.value for box in app.success]
    assert proof.count(versions[0].digest) == 2
    button(app, "Redo: forward to v2").click().run()
    assert ws.project(project.id).current == versions[1].id


def test_the_table_of_versions_tells_accuracy_operation_date_and_author(
    open_page: OpenPage, ws: Workspace, pico_images: Dataset
) -> None:
    patient = admit(ws, pico_images, scanned=False)
    child = patient.operate([0, 5])
    app = open_page("versions", **patient.link)
    assert failures(app) == []
    lineage = app.dataframe[0].value
    receipt = ws.receipt(child.id)
    assert receipt is not None
    accuracy = next(row for row in receipt["table"] if row["metric"] == "accuracy" and row["scope"] == "overall")
    assert lineage[f"Accuracy (test, n = {accuracy['n']})"].tolist() == [
        f"{100 * accuracy[side]:.1f}%" for side in ("before", "after")
    ]
    assert lineage["Operation"].tolist() == ["import", "prune"]
    assert lineage["Author"].tolist() == ["ada", "ada"]
    assert lineage["Date (UTC)"].tolist()[1] == f"{child.created:%Y-%m-%d %H:%M}"
    assert "Receipt (HTML)" in [found.proto.label for found in app.get("download_button")]


def test_undo_says_why_its_target_cannot_become_current(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    ws.trash_version(versions[0].id)
    undo = button(open_page("versions", project=project.id), "Undo: back to v1")
    assert undo.disabled and undo.help == "v1 is in the trash: restore it on Versions first."


def test_undo_takes_back_what_last_changed_the_current_version_not_what_was_held_back(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    ws.commit(project.id, perceptron(2), name="Held back", parent=versions[1].id, make_current=False)
    undo = button(open_page("versions", project=project.id), "Undo: back to v1")
    assert undo.help == "Makes version 1 “Original” current."


def test_a_changed_file_is_found_at_undo(open_page: OpenPage, project: Project, versions: list[Version]) -> None:
    weights = versions[0].folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    app = open_page("versions", project=project.id)
    button(app, "Undo: back to v1").click().run()
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
    assert [toast.value for toast in app.toast] == ["Checksum verified."]


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


def test_eight_bits_are_measured_and_said(open_page: OpenPage, ws: Workspace, pico_images: Dataset) -> None:
    patient = admit(ws, pico_images, scanned=False)
    app = open_page("versions", **patient.link)
    app.button(key="prepare_int8").click().run()
    (job,) = jobs.jobs(ws, patient.project.id)
    while jobs.status(ws, job.id).active:
        time.sleep(0.2)
    found = jobs.status(ws, job.id)
    assert found.state == "done", found.reason
    assert Path(found.result["file"]).name == "v1.int8.onnx"
    app = open_page("versions", **patient.link)
    assert failures(app) == []
    said = "\n".join(caption.value for caption in app.caption)
    n = len(pico_images.ids("test"))
    assert f"on {n} test samples" in said
    assert "% of the bytes of 32 bits" in said
    assert ("8 bits do not run faster" in said) or ("× as fast" in said)


def test_it_is_said_when_eight_bits_are_no_faster() -> None:
    found = {"bytes": [1000, 260], "quality": [0.9, 0.89], "metric": "accuracy", "split": "test", "n": 50, "threads": 2}
    slow = {"times": [{"batch": 32, "whole": 4.0, "int8": 3.9, "spread": 0.2}]}
    fast = {"times": [{"batch": 32, "whole": 4.0, "int8": 1.0, "spread": 0.2}]}
    assert "26.0% of the bytes" in int8_said(found | slow)
    assert "accuracy 90.0% → 89.0% on 50 test samples" in int8_said(found | slow)
    assert "8 bits do not run faster at batch 32 on this machine" in int8_said(found | slow)
    assert "4.00× as fast" in int8_said(found | fast)


def test_all_versions_stand_in_one_figure(open_page: OpenPage, ws: Workspace, pico_images: Dataset) -> None:
    patient = admit(ws, pico_images, scanned=False)
    assert not open_page("versions", **patient.link).get("plotly_chart"), "one version has nobody beside it"
    child = patient.operate([0, 5])
    app = open_page("versions", **patient.link)
    assert failures(app) == []
    assert len(app.get("plotly_chart")) == 1
    assert any("Pareto front:" in caption.value for caption in app.caption)
    receipts = {child.id: ws.receipt(child.id)}
    points, metric = all_versions.measured(ws.versions(patient.project.id), receipts, patient.dataset.digest)
    assert metric == "accuracy"
    bytes_row = next(row for row in receipts[child.id]["table"] if row["metric"] == "bytes")
    assert points["kilobytes"].tolist() == [bytes_row["before"] / 1000, bytes_row["after"] / 1000]
    assert len(all_versions.measured(ws.versions(patient.project.id), receipts, "sha256:other")[0]) == 0
    narrow = copy.deepcopy(receipts[child.id])
    narrow["dataset"]["classes"] = narrow["dataset"]["classes"][:2]
    other = patient.operate([1])
    receipts = {child.id: receipts[child.id], other.id: narrow, "x": receipts[child.id]}
    points, _ = all_versions.measured(ws.versions(patient.project.id), receipts, patient.dataset.digest)
    assert other.id not in points["version"].tolist(), "measured on fewer classes"


def test_a_version_is_unbeaten_when_none_is_as_small_and_as_good() -> None:
    points = pd.DataFrame({"kilobytes": [10.0, 5.0, 5.0, 2.0, 20.0], "quality": [0.9, 0.8, 0.7, 0.8, 0.9]})
    assert all_versions.unbeaten(points, higher=True) == [True, False, False, True, False]
    points["quality"] *= -1
    assert all_versions.unbeaten(points, higher=False) == [True, False, False, True, False]
