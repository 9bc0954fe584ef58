"""What a person decides for a project, and results that wait for a decision: kept, told, and brought back."""

from __future__ import annotations

import pytest

from surgery.errors import WorkspaceError
from surgery.workspace import Project, Workspace, doctor
from surgery.workspace.settings import Settings
from tests.patients import mlp

WORSE = ("accuracy −4.0 pp, 2.0 pp allowed",)


def candidate_of(ws: Workspace, project: Project) -> tuple[str, str]:
    first = ws.commit(project.id, mlp(), name="Original")
    return first.id, ws.commit(project.id, mlp(), name="Cut", parent=first.id, candidate=WORSE).id


def test_a_candidate_does_not_become_current_and_is_no_step_of_undo(ws: Workspace, project: Project) -> None:
    first, second = candidate_of(ws, project)
    assert ws.project(project.id).current == first
    assert ws.version(second).candidate == WORSE and ws.version(first).candidate == ()
    assert ws.undo_target(project.id) is None
    assert ws.events(project.id)[0].what == f"committed version 2 'Cut' (import) as a candidate: {WORSE[0]}"


def test_made_current_it_is_a_version_like_any_other(ws: Workspace, project: Project) -> None:
    first, second = candidate_of(ws, project)
    assert ws.make_current(project.id, second).current == second
    assert ws.version(second).candidate == ()
    assert ws.events(project.id)[0].what == f"made version 2 'Cut' current although {WORSE[0]}"
    assert ws.undo(project.id).current == first and ws.redo(project.id).current == second


def test_discarded_it_lies_in_the_trash_and_comes_back_as_a_candidate(ws: Workspace, project: Project) -> None:
    first, second = candidate_of(ws, project)
    assert ws.discard(second).state == "trash"
    assert ws.restore_version(second).candidate == WORSE
    with pytest.raises(WorkspaceError, match=r"Version 1 'Original' is not a candidate\. Only a result"):
        ws.discard(first)


def test_settings_are_kept_per_project_and_dataset(ws: Workspace, project: Project) -> None:
    assert (project.settings.drop, project.settings.class_drop) == (2.0, 10.0)
    assert ws.set_tolerance(project.id, drop=0.5).settings == Settings(0.5, 10.0)
    assert ws.events(project.id)[0].what == "set the tolerance to 0.5 pp overall, 10.0 pp in any class"
    with pytest.raises(WorkspaceError, match=r"The tolerance 101 is not allowed\. Give between 0 and 100 pp"):
        ws.set_tolerance(project.id, class_drop=101)
    with pytest.raises(WorkspaceError, match="no dataset 'nowhere'"):
        ws.set_trained_on(project.id, "nowhere", "yes")


def test_an_answer_of_a_later_version_is_unknown_and_nonsense_is_left_out() -> None:
    found = Settings.parse({"drop": "much", "class_drop": 5, "trained_on": {"a": "yes", "b": "perhaps"}, "more": 1})
    assert found == Settings(class_drop=5, trained_on={"a": "yes"})
    assert Settings.parse(found.to_json()) == found
    assert found.seen("a") == "model was trained on this data"
    assert found.seen("b") == "unknown whether the model was trained on this data"
    with pytest.raises(WorkspaceError, match="'perhaps' does not say what a model was trained on"):
        found.knowing("a", "perhaps")  # type: ignore[arg-type]


def test_the_doctor_brings_candidates_and_settings_back_from_the_folders(ws: Workspace, project: Project) -> None:
    ws.commit(project.id, mlp(), name="Before")
    ws.set_tolerance(project.id, drop=7, class_drop=30)
    first, second = candidate_of(ws, project)
    ws.store.engine.dispose()
    for path in [*ws.home.glob("catalogue.db*"), *ws.home.glob("backups/*")]:
        path.unlink()
    doctor.repair(ws.home)
    again = Workspace(ws.home)
    (found,) = again.projects()
    assert found.current == first and found.settings == Settings(7, 30)
    assert again.version(second).candidate == WORSE
