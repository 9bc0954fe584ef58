"""Selections: saved with a digest, and carried through surgeries by the old-id maps."""

from __future__ import annotations

import pytest
import torch

from surgery.errors import NotFoundError, SelectionError
from surgery.workspace import Project, Version, Workspace
from tests.patients import mlp


@pytest.fixture
def root(ws: Workspace, project: Project) -> Version:
    """17 neurons: 8, 6 and 3 logits."""
    return ws.commit(project.id, mlp(), name="Original")


def child(ws: Workspace, parent: Version, sizes: tuple[int, ...], kept: list[int] | None) -> Version:
    old = None if kept is None else torch.tensor(kept)
    return ws.commit(parent.project, mlp(sizes), name="cut", parent=parent.id, kept=old)


def test_ids_are_sorted_without_repeats_and_digested(ws: Workspace, root: Version):
    one = ws.save_selection(root.project, root.id, "edge", [5, 2, 5])
    two = ws.save_selection(root.project, root.id, "same", (2, 5))
    assert one.ids == (2, 5) and one.digest == two.digest
    assert ws.save_selection(root.project, root.id, "third", [2, 6]).digest != one.digest
    assert [s.name for s in ws.selections(root.project)] == ["edge", "same", "third"]
    assert ws.selection(one.id) == one


def test_the_same_name_replaces(ws: Workspace, root: Version):
    ws.save_selection(root.project, root.id, "edge", [1])
    ws.save_selection(root.project, root.id, "edge", [2])
    assert [s.ids for s in ws.selections(root.project, root.id)] == [(2,)]


@pytest.mark.parametrize(
    ("ids", "told"), [([], "is empty"), ([3, 17], "Neuron 17 does not exist.*0 to 16"), ([-1], "Neuron -1")]
)
def test_impossible_ids_are_refused(ws: Workspace, root: Version, ids: list[int], told: str):
    with pytest.raises(SelectionError, match=told):
        ws.save_selection(root.project, root.id, "edge", ids)


def test_delete(ws: Workspace, root: Version):
    selection = ws.save_selection(root.project, root.id, "edge", [1])
    ws.delete_selection(selection.id)
    with pytest.raises(NotFoundError, match="no selection"):
        ws.selection(selection.id)


def test_down_one_surgery(ws: Workspace, root: Version):
    kept = [0, 1, 3, 4, 5, 6, *range(8, 17)]  # 2 and 7 went
    cut = child(ws, root, (4, 6, 6, 3), kept)
    selection = ws.save_selection(root.project, root.id, "edge", [1, 2, 3, 8])
    assert ws.map_selection(selection.id, cut.id) == ([1, 2, 6], [2])
    assert ws.kept(cut.id) == kept and ws.kept(root.id) is None


def test_up_again(ws: Workspace, root: Version):
    cut = child(ws, root, (4, 6, 6, 3), [0, 1, 3, 4, 5, 6, *range(8, 17)])
    selection = ws.save_selection(root.project, cut.id, "edge", [2, 6])
    assert ws.map_selection(selection.id, root.id) == ([3, 8], [])


def test_between_branches_through_the_common_ancestor_even_when_one_is_deleted(ws: Workspace, root: Version):
    left = child(ws, root, (4, 6, 6, 3), [0, 1, 3, 4, 5, 6, *range(8, 17)])
    leaf = child(ws, left, (4, 5, 6, 3), [0, 1, 2, 3, 4, *range(6, 15)])
    right = child(ws, root, (4, 7, 6, 3), [1, 2, 3, 4, 5, 6, 7, *range(8, 17)])
    selection = ws.save_selection(root.project, leaf.id, "edge", [0, 2, 5])  # the root's 0, 3 and 8
    assert ws.map_selection(selection.id, right.id) == ([2, 7], [0])
    ws.trash_version(left.id)
    ws.empty_trash()
    assert ws.map_selection(selection.id, right.id) == ([2, 7], [0])


def test_new_neurons_have_no_counterpart_before(ws: Workspace, root: Version):
    grown = child(ws, root, (4, 9, 6, 3), [*range(8), -1, *range(8, 17)])
    selection = ws.save_selection(root.project, grown.id, "edge", [7, 8, 9])
    assert ws.map_selection(selection.id, root.id) == ([7, 8], [8])


def test_tuning_leaves_the_ids_as_they_are(ws: Workspace, root: Version):
    tuned = child(ws, root, (4, 8, 6, 3), None)
    selection = ws.save_selection(root.project, root.id, "edge", [1, 16])
    assert ws.map_selection(selection.id, tuned.id) == ([1, 16], [])


def test_another_root_shares_nothing(ws: Workspace, root: Version):
    other = ws.commit(root.project, mlp(), name="Other import")
    selection = ws.save_selection(root.project, root.id, "edge", [1])
    with pytest.raises(SelectionError, match="shares no ancestor"):
        ws.map_selection(selection.id, other.id)
