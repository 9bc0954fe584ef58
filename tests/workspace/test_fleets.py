"""Fleets in the workspace: committed whole or not at all, members protected, guests taken back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch

from surgery.edit.lend import Share, fleet_of
from surgery.errors import NotFoundError, WorkspaceError
from surgery.network import fleet_store
from surgery.network.cuts import cuts_of
from surgery.workspace import Project, Workspace
from surgery.workspace.rows import Fleet
from tests.patients import fleet


@pytest.fixture
def members(ws: Workspace, project: Project) -> Mapping[str, str]:
    made = {name: ws.commit(project.id, model, name=name).id for name, model in zip("ab", fleet()[:2], strict=True)}
    ws.commit(project.id, fleet()[2], name="current")
    return made


@pytest.fixture
def shared(ws: Workspace, project: Project, members: Mapping[str, str]) -> Fleet:
    return add(ws, project, members)


def add(ws: Workspace, project: Project, members: Mapping[str, str], **given: object) -> Fleet:
    models = dict(zip(members, fleet()[:2], strict=True))
    share = Share(cuts_of(models["a"])[3], cuts_of(models["b"])[3], None)
    return ws.add_fleet(
        project.id,
        "Edge",
        lambda folder: fleet_store.save(fleet_of(models, {"b": ("a", share)}), models, folder),
        members=members,
        hosts={"b": "a"},
        documents={"plan": {"operation": "share"}, "receipt": {"title": "Share layers"}},
        tables={"shares": pd.DataFrame([{"guest": 1, "chosen": True}])},
        **given,
    )


def test_it_is_listed_with_all_that_explains_it(ws: Workspace, project: Project, shared: Fleet) -> None:
    assert ws.fleets(project.id) == [shared]
    assert (shared.number, shared.name, shared.sharing, shared.back) == (1, "Edge", ("b",), ())
    assert shared.bytes == (shared.folder / "model.safetensors").stat().st_size
    assert ws.fleet_document(shared.id, "plan") == {"operation": "share"}
    assert ws.fleet_table(shared.id)["chosen"].all()
    assert any("made fleet 1 'Edge' of 2 models" in event.what for event in ws.events(project.id))
    assert ws.rename_fleet(shared.id, "Device").name == "Device"


def test_taken_back_it_is_what_it_was_bit_for_bit(ws: Workspace, project: Project, shared: Fleet) -> None:
    x = torch.rand(4, 1, 8, 8)
    model = fleet()[1]
    mean, std = (torch.tensor(value)[:, None, None] for value in (model.input.mean, model.input.std))
    with torch.no_grad():
        together = ws.fleet_network(shared.id)(x)["b"]
        assert ws.take_back(shared.id, "b", why="it drifted").back == ("b",)
        assert torch.equal(ws.fleet_network(shared.id)(x)["b"], model((x - mean) / std))
        assert any("took back 'b' in fleet 1 'Edge': it drifted" in event.what for event in ws.events(project.id))
        assert ws.share_again(shared.id, "b").sharing == ("b",)
        assert torch.equal(ws.fleet_network(shared.id)(x)["b"], together)
    count = len(ws.events(project.id))
    ws.share_again(shared.id, "b")
    assert len(ws.events(project.id)) == count, "nothing changed, nothing is told"
    with pytest.raises(WorkspaceError, match="'a' shares nothing in fleet 'Edge'"):
        ws.take_back(shared.id, "a")


def test_a_member_cannot_be_deleted(ws: Workspace, project: Project, members: Mapping[str, str], shared: Fleet) -> None:
    with pytest.raises(WorkspaceError, match="is a member of fleet 1 'Edge', which could not take it back"):
        ws.trash_version(members["b"])
    ws.trash_fleet(shared.id)
    assert ws.fleets(project.id) == []
    assert [one.id for one in ws.fleets(project.id, trashed=True)] == [shared.id]
    with pytest.raises(WorkspaceError, match="is a member of fleet"):
        ws.trash_version(members["b"])
    ws.restore_fleet(shared.id)
    ws.trash_fleet(shared.id)
    ws.empty_trash()
    assert not shared.folder.exists()
    assert ws.trash_version(members["b"]).state == "trash"


def test_a_member_that_changed_after_the_plan_is_refused(
    ws: Workspace, project: Project, members: Mapping[str, str]
) -> None:
    file = ws.version(members["b"]).folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(WorkspaceError, match="files of version 2 'b' have changed"):
        add(ws, project, members)
    with pytest.raises(NotFoundError, match="no version 'gone'"):
        add(ws, project, {**members, "b": "gone"})
    assert ws.fleets(project.id) == []
    assert list((ws.home / "fleets").iterdir()) == []


def test_a_member_in_the_trash_is_refused(ws: Workspace, project: Project, members: Mapping[str, str]) -> None:
    ws.trash_version(members["b"])
    with pytest.raises(WorkspaceError, match="Version 2 'b' is in the trash: a fleet could not take it back"):
        add(ws, project, members)
    assert list((ws.home / "fleets").iterdir()) == []


def test_a_fleet_whose_files_changed_is_refused(ws: Workspace, shared: Fleet) -> None:
    file = shared.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(WorkspaceError, match="files of fleet 1 'Edge' have changed"):
        ws.fleet_network(shared.id)


def test_folders_without_a_row_are_left_alone(ws: Workspace, shared: Fleet, tmp_path: Path) -> None:
    orphan = ws.home / "fleets" / "0123456789"
    orphan.mkdir()
    Workspace(ws.home, who="ada")
    assert orphan.exists()


def test_it_goes_with_its_project(ws: Workspace, project: Project, shared: Fleet) -> None:
    ws.trash_project(project.id)
    ws.empty_trash()
    assert not shared.folder.exists()
