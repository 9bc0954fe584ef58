"""A candidate is decided on the page: made current, or discarded. What models have seen is told and can be changed."""

from __future__ import annotations

import pytest

from surgery.workspace import Project, Version, Workspace
from tests.pages.conftest import OpenPage, failures, perceptron

WHY = "accuracy fell by 26.1 pp on test, n = 360 (2.0 pp allowed)"


@pytest.fixture
def waiting(ws: Workspace, project: Project) -> Version:
    """A third version that waits for a decision."""
    return ws.commit(project.id, perceptron(2), name="Ruined", parent=project.current, candidate=(WHY,))


def test_versions_names_the_reason_and_makes_it_current(
    open_page: OpenPage, ws: Workspace, project: Project, waiting: Version
) -> None:
    app = open_page("versions", project=project.id, version=waiting.id)
    assert failures(app) == []
    assert app.dataframe[0].value["Version"].iloc[-1].endswith("v3 Ruined · candidate")
    (said,) = [text.value.replace("\\", "") for text in app.markdown if "is a candidate" in text.value]
    assert "v3 is a candidate, not current" in said and f"- A{WHY[1:]}" in said
    app.button(key=f"accept_{waiting.id}").click().run()
    assert ws.project(project.id).current == waiting.id and ws.version(waiting.id).candidate == ()
    assert not any("is a candidate" in text.value for text in app.markdown)


def test_discarded_it_lies_in_the_trash(open_page: OpenPage, ws: Workspace, project: Project, waiting: Version) -> None:
    app = open_page("versions", project=project.id, version=waiting.id)
    app.button(key=f"discard_{waiting.id}").click().run()
    assert failures(app) == []
    assert ws.project(project.id).current == project.current
    assert [version.name for version in ws.versions(project.id, trashed=True)] == ["Ruined"]


def test_home_counts_what_waits_and_sets_the_tolerance(
    open_page: OpenPage, ws: Workspace, project: Project, waiting: Version
) -> None:
    app = open_page("home", project=project.id)
    assert failures(app) == []
    assert any(text.value.endswith("· 1 candidate to decide") for text in app.caption)
    (drop,) = [field for field in app.number_input if field.label == "Maximum accuracy drop (pp)"]
    drop.set_value(0.5)
    next(button for button in app.button if button.label == "Save tolerance").click().run()
    assert ws.project(project.id).settings.drop == 0.5


def test_what_the_model_has_seen_is_told_beside_the_numbers(
    open_page: OpenPage, ws: Workspace, project: Project
) -> None:
    (data,) = ws.datasets(project.id)
    app = open_page("model_data", project=project.id)
    assert failures(app) == []
    app.selectbox(key=f"trained_on_{data.id}").set_value("yes").run()
    assert ws.project(project.id).settings.answer(data.id) == "yes"
    assert ws.events(project.id)[0].what == "noted of dataset 'Measured': model was trained on this data"
