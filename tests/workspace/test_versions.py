"""Versions: committed whole, never changed, proven by their bytes; what is current and the exact way back."""

from __future__ import annotations

import itertools
import json

import pandas as pd
import pytest
import torch

from surgery.errors import ConflictError, NotFoundError, WorkspaceError
from surgery.network import store as models
from surgery.workspace import Project, Version, Workspace
from tests.patients import SIZES, mlp

N = sum(SIZES[1:])


def commit(ws: Workspace, project: Project, name: str, **given) -> Version:
    return ws.commit(project.id, mlp(seed=len(ws.versions(project.id))), name=name, **given)


@pytest.fixture
def three(ws: Workspace, project: Project) -> list[str]:
    """Three versions, each current in turn."""
    return [commit(ws, project, name).id for name in ("one", "two", "three")]


def test_a_version_has_everything_that_explains_it(ws: Workspace, project: Project):
    root = commit(ws, project, "Original")
    plan, receipt = {"operation": "prune", "seed": 3}, {"title": "Prune"}
    table = pd.DataFrame({"neuron": [1, 2]})
    child = commit(
        ws, project, "Cut", parent=root.id, plan=plan, receipt=receipt, kept=torch.arange(N), tables={"gone": table}
    )
    assert (child.number, child.parent, child.operation) == (2, root.id, "prune")
    assert (child.neurons, child.parameters) == (N, sum(a * b + b for a, b in itertools.pairwise(SIZES)))
    assert child.bytes == (child.folder / "model.safetensors").stat().st_size
    assert ws.plan(child.id) == plan and ws.receipt(child.id) == receipt
    assert ws.plan(root.id) is None and ws.receipt(root.id) is None
    pd.testing.assert_frame_equal(ws.table(child.id, "gone"), table)
    told = json.loads((child.folder / "version.json").read_text())
    assert told["parent"] == root.id and told["digest"] == child.digest and told["who"] == "ada"
    assert told["libraries"]["torch"] == torch.__version__.split("+")[0] and told["kept"] == list(range(N))


def test_the_model_comes_back_bit_for_bit(ws: Workspace, project: Project):
    model = mlp()
    version = ws.commit(project.id, model, name="Original")
    x = torch.randn(5, SIZES[0])
    assert torch.equal(ws.model(version.id)(x), model(x))
    assert ws.inspect(version.id)["name"] == "mlp"


def test_a_table_that_is_not_there_is_named(ws: Workspace, project: Project):
    version = commit(ws, project, "Original")
    with pytest.raises(NotFoundError, match=r"has no table '../plan'"):
        ws.table(version.id, "../plan")


def test_verify_notices_one_changed_bit(ws: Workspace, project: Project):
    version = commit(ws, project, "Original")
    assert ws.verify(version.id) == version.digest == models.digest(version.folder)
    weights = version.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"files of version 1 'Original' have changed: model\.safetensors changed"):
        ws.verify(version.id)


def test_undo_and_redo_walk_the_history_exactly(ws: Workspace, project: Project, three: list[str]):
    one, two, three_ = three
    assert ws.undo(project.id).current == two
    assert ws.undo(project.id).current == one
    assert ws.undo_target(project.id) is None and ws.redo_target(project.id) == two
    with pytest.raises(WorkspaceError, match="nothing to undo in project 'Digits'"):
        ws.undo(project.id)
    assert ws.redo(project.id).current == two
    assert ws.redo(project.id).current == three_
    with pytest.raises(WorkspaceError, match="nothing to redo"):
        ws.redo(project.id)


def test_a_new_move_cuts_off_what_could_be_redone(ws: Workspace, project: Project, three: list[str]):
    one, two, _ = three
    ws.undo(project.id)
    ws.make_current(project.id, one)
    assert ws.redo_target(project.id) is None
    assert ws.undo(project.id).current == two


def test_making_the_current_version_current_is_no_move(ws: Workspace, project: Project, three: list[str]):
    before = ws.project(project.id)
    assert ws.make_current(project.id, three[2]) == before
    assert ws.undo_target(project.id) == three[1]


def test_undo_leaves_the_bytes_of_both_versions_alone(ws: Workspace, project: Project, three: list[str]):
    digests = [ws.verify(id) for id in three]
    ws.undo(project.id)
    ws.redo(project.id)
    assert [ws.verify(id) for id in three] == digests


def test_the_second_of_two_tabs_is_told_what_the_first_one_did(ws: Workspace, project: Project, three: list[str]):
    seen = ws.project(project.id).revision
    ws.acting_as("grace").make_current(project.id, three[0], revision=seen)
    told = r"'Digits' was changed meanwhile: grace made version 1 'one' current at \d\d:\d\d:\d\d UTC"
    with pytest.raises(ConflictError, match=told):
        ws.make_current(project.id, three[1], revision=seen)
    with pytest.raises(ConflictError, match=told):
        ws.undo(project.id, revision=seen)
    assert ws.project(project.id).current == three[0]


def test_a_result_does_not_overrule_whoever_moved_on(ws: Workspace, project: Project, three: list[str]):
    late = commit(ws, project, "late", parent=three[0], expected_current=three[0])
    assert ws.project(project.id).current == three[2]
    assert late.id in [version.id for version in ws.versions(project.id)]
    timely = commit(ws, project, "timely", parent=three[2], expected_current=three[2])
    assert ws.project(project.id).current == timely.id


def test_the_current_version_cannot_be_deleted_but_its_parent_can(ws: Workspace, project: Project):
    parent = commit(ws, project, "parent")
    child = commit(ws, project, "child", parent=parent.id)
    with pytest.raises(WorkspaceError, match=r"2 'child' is the current one and cannot be deleted.*Make another"):
        ws.trash_version(child.id)
    ws.trash_version(parent.id)
    assert [v.id for v in ws.versions(project.id)] == [child.id]
    assert [v.id for v in ws.versions(project.id, trashed=True)] == [parent.id]
    with pytest.raises(WorkspaceError, match=r"1 'parent' lies in the trash.*Restore it"):
        ws.undo(project.id)
    ws.restore_version(parent.id)
    assert ws.undo(project.id).current == parent.id


def test_emptying_the_trash_keeps_children_and_shortens_the_history(ws: Workspace, project: Project, three: list[str]):
    ws.trash_version(three[1])
    gone = ws.version(three[1]).folder
    assert ws.empty_trash() > 0
    assert not gone.exists()
    assert ws.undo(project.id).current == three[0]
    assert ws.redo(project.id).current == three[2]
    assert commit(ws, project, "four").number == 4, "a number is never given twice"


def test_deleting_between_two_visits_of_a_version_leaves_one(ws: Workspace, project: Project, three: list[str]):
    ws.make_current(project.id, three[0])
    ws.make_current(project.id, three[2])
    ws.trash_version(three[0])
    ws.empty_trash()
    assert ws.undo(project.id).current == three[1]


def test_versions_do_not_cross_projects(ws: Workspace, project: Project, three: list[str]):
    other = ws.create_project("Other")
    with pytest.raises(WorkspaceError, match="'one' belongs to another project"):
        ws.make_current(other.id, three[0])
    with pytest.raises(WorkspaceError, match="parent 'one' belongs to another project"):
        ws.commit(other.id, mlp(), name="stray", parent=three[0])
    assert ws.versions(other.id) == [] and not list((ws.home / "staging").iterdir())


def test_rename(ws: Workspace, project: Project, three: list[str]):
    assert ws.rename_version(three[0], " Smaller ").name == "Smaller"
    assert ws.rename_project(project.id, "Ciphers").name == "Ciphers"


def test_scans_are_found_by_digests_and_go_with_their_version(ws: Workspace, project: Project, pico_table):
    from tests.workspace.test_projects import copy_of

    one, two = commit(ws, project, "one"), commit(ws, project, "two")
    data = ws.add_dataset(project.id, "boxes", copy_of(pico_table))
    params = {"role": "train", "limit": None}
    assert not ws.has_scan(one.id, data.id, params)
    folder = ws.add_scan(one.id, data.id, params, lambda folder: (folder / "scan.json").write_text("{}"))
    assert ws.has_scan(one.id, data.id, {"limit": None, "role": "train"}) and folder.parent == ws.home / "scans"
    assert not ws.has_scan(two.id, data.id, params) and not ws.has_scan(one.id, data.id, {"role": "val"})
    again = ws.add_scan(one.id, data.id, params, lambda folder: (folder / "scan.json").write_text("other"))
    assert (again / "scan.json").read_text() == "{}", "the first one stays"
    ws.trash_version(one.id)
    ws.empty_trash()
    assert not folder.exists()
