"""Home: the measured sentence first, three ways to start, the projects and their trash."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pytest
from streamlit.testing.v1 import AppTest

import sample_models
from surgery import jobs
from surgery.receipt import Receipt
from surgery.standing import _bridged, standing
from surgery.ui import home
from surgery.workspace import Project, Version, Workspace, queue
from tests.pages.conftest import OpenPage, failures, perceptron
from tests.rows import line


def said(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption]).replace("\\", "")


HEADLINE = "Accuracy 92.9% → 85.7% (−7.1 pp, not significant)"


def test_the_measured_sentence_stands_first(open_page: OpenPage, project: Project) -> None:
    app = open_page()
    assert failures(app) == []
    first = next(element.value for element in app.markdown if element.value.startswith("####"))
    assert first.replace("\\", "").startswith(f"#### {HEADLINE}")
    assert "Boxes · v2 Pruned, current, against v1" in said(app)


def test_a_version_that_was_undone_is_no_longer_praised(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    ws.undo(project.id)
    app = open_page()
    assert failures(app) == []
    assert HEADLINE not in said(app)
    assert said(app).count("v1 Original is current: the original") == 2  # Continue, and the row of the project


def test_the_card_is_about_the_project_in_the_bar(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    other = ws.create_project("Bolts")
    app = open_page("home", project=other.id)
    assert not any(element.value.startswith("#### ") for element in app.markdown)
    assert said(app).count(HEADLINE) == 1  # in the row of its own project


def test_two_surgeries_are_told_against_the_original(ws: Workspace, project: Project, versions: list[Version]) -> None:
    first = ws.receipt(versions[1].id)
    assert first is not None
    row = first["table"][0]
    again = first | {"table": [row | {"before": row["after"], "after": 11 / 14, "change": -1 / 14}]}
    third = ws.commit(
        project.id, perceptron(2), name="Again", parent=versions[1].id, receipt=again, operation="Prune neurons"
    )
    found = standing(ws, ws.project(project.id))
    assert found is not None and found.told is not None
    assert (found.current.id, found.original.id) == (third.id, versions[0].id)
    assert found.told.headline == (
        "Accuracy 92.9% → 78.6% (−14.3 pp, not significant) · test, n = 14 · "
        "unknown whether the model was trained on this data · as many parameters"
    )
    classes = [line("accuracy", 1.0, 0.9, "long", n=6), line("accuracy", 0.75, 0.7, "wide", n=4)]
    one = Receipt.from_json(first | {"table": [*first["table"], *classes]})
    fewer = {"table": [line("accuracy", 0.5, 1.0, n=10)], "dataset": first["dataset"] | {"classes": ["long", "wide"]}}
    (bridged,) = _bridged(one, Receipt.from_json(first | fewer))
    assert (bridged["before"], bridged["after"]) == (0.9, 1.0), "of the classes that are left"
    other = again | {"dataset": again["dataset"] | {"digest": "sha256:other"}}
    ws.commit(project.id, perceptron(3), name="Elsewhere", parent=third.id, receipt=other, operation="Prune neurons")
    found = standing(ws, ws.project(project.id))
    assert found is not None and found.told is not None and found.told.headline == "as many parameters"


def test_an_empty_workspace_offers_a_beginning(open_page: OpenPage) -> None:
    app = open_page()
    assert [box.value for box in app.info] == ["No project yet. Open a sample, or bring a model."]
    assert {"Open sample", "Create project"} <= {button.label for button in app.button}


def test_a_new_project_opens_model_and_data(open_page: OpenPage, ws: Workspace) -> None:
    app = open_page()
    app.text_input[0].input("Bolts")
    _button(app, "Create project").click().run()
    (made,) = ws.projects()
    assert made.name == "Bolts"
    assert app.query_params["project"] == made.id
    assert "### Model & data" in [element.value for element in app.markdown]


def test_a_name_that_is_not_allowed_is_an_error_panel(open_page: OpenPage, ws: Workspace) -> None:
    app = open_page()
    app.text_input[0].input("two\x07bells")
    _button(app, "Create project").click().run()
    assert "printable" in failures(app)[0]
    assert ws.projects() == []


def test_a_project_is_renamed_and_thrown_away_from_its_row(
    open_page: OpenPage, ws: Workspace, project: Project
) -> None:
    app = open_page()
    app.text_input[1].input("Crates")
    _button(app, "Save name").click().run()
    assert ws.project(project.id).name == "Crates"
    app.button(key=f"trash_{project.id}").click().run()
    assert ws.project(project.id).state == "trash"
    assert [toast.value for toast in app.toast] == ["Crates is in the trash."]


def test_a_project_goes_to_the_trash_and_comes_back(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    ws.trash_project(project.id)
    app = open_page()
    assert app.expander[0].label == "Trash: 1 project"
    _button(app, "Restore").click().run()
    assert [restored.id for restored in ws.projects()] == [project.id]
    ws.trash_project(project.id)
    app = open_page()
    _button(app, "Erase for good").click().run()
    assert ws.projects(trashed=True) == []


def test_a_sample_fills_its_project_in_a_job(
    open_page: OpenPage, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page()
    app.selectbox[0].select("breast_cancer").run()
    _button(app, "Open sample").click().run()
    (made,) = ws.projects()
    (job,) = queue.listing(ws.store, made.id)
    assert (made.name, job.kind, job.task["sample"]) == ("Tumour cells", "open_sample", "breast_cancer")
    while jobs.status(ws, job.id).active:
        time.sleep(0.2)
    assert jobs.status(ws, job.id).reason == ""
    app.run()
    assert failures(app) == []
    assert "### Neurons" in [element.value for element in app.markdown]
    version, dataset = ws.project(made.id).current or "", ws.project(made.id).dataset or ""
    assert ws.has_scan(version, dataset, {})


@pytest.fixture
def new_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is no workspace yet."""
    home._install.clear()
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "new"))
    return tmp_path / "new"


def test_a_new_workspace_opens_on_the_finished_sample(open_page: OpenPage, new_home: Path) -> None:
    app = open_page()
    assert failures(app) == []
    (made,) = Workspace(new_home).projects()
    assert made.name == "Digits, finished"
    assert any(element.value.startswith("#### Accuracy 99") for element in app.markdown)
    assert app.query_params["project"] == made.id
    assert "Create project" in [button.label for button in app.button]


def test_what_cannot_be_installed_is_told(open_page: OpenPage, new_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(ws: Workspace) -> str:
        raise BadZipFile("File is not a zip file")

    monkeypatch.setattr(sample_models, "open_finished", fail)
    (told,) = failures(open_page())
    assert r"The finished sample could not be installed\: File is not a zip file" in told
    Workspace(new_home).create_project("My own")
    assert failures(open_page()) == []


def test_nothing_is_installed_into_a_workspace_with_a_history(ws: Workspace) -> None:
    assert not home.is_new(ws)
    assert home._install(str(ws.home)) == ""
    assert ws.projects() == []


def test_how_far_a_project_has_come(ws: Workspace, project: Project) -> None:
    assert home.line_of(ws, ws.create_project("Empty")) == "No model yet."
    assert home.line_of(ws, project).startswith(f"v2 against v1: {HEADLINE}")
    fresh = ws.create_project("Fresh")
    ws.commit(fresh.id, perceptron(0), name="Original")
    assert home.line_of(ws, ws.project(fresh.id)) == "Model imported, no dataset yet."


def _button(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label == label)
