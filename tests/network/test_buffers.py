"""Buffers that a state_dict leaves out, and the proof that a version is what was in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from surgery.edit.lend import fleet_of
from surgery.edit.shrink import shrink
from surgery.errors import ModelError
from surgery.network import architectures, fleet_store, proof, store
from surgery.network.architectures import build, load_operator_file
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec, Model
from surgery.workspace import Project, Workspace

NETWORKS = """
import torch
from torch import nn


class Scaled(nn.Module):
    "Channels times a buffer that is not saved, and a table of places that does not belong to neurons."

    def __init__(self, width=8, persistent=False):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.register_buffer("scale", torch.arange(1.0, 1 + width)[:, None, None], persistent=persistent)
        self.register_buffer("places", torch.linspace(0, 1, 64).view(1, 1, 8, 8), persistent=False)
        self.register_buffer("scratch", torch.empty(3).zero_(), persistent=False)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head((self.conv(x + self.places) * self.scale).relu().mean((2, 3))) + self.scratch.sum()


class Drawn(nn.Module):
    "A mask that is drawn anew in each construction: as a buffer, or as a plain attribute."

    def __init__(self, buffer=True):
        super().__init__()
        self.first, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        if buffer:
            self.register_buffer("mask", torch.randn(6), persistent=False)
        else:
            self.mask = torch.randn(6)

    def forward(self, x):
        return self.head(self.first(x).relu() * self.mask)


class Random(nn.Module):
    "Drops values at inference too."

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.dropout(self.first(x), 0.5, True))


ARCHITECTURES = {"scaled": Scaled, "drawn": Drawn, "random": Random}
"""


@pytest.fixture(autouse=True)
def own_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(architectures, "_custom", {})
    file = tmp_path / "own.py"
    file.write_text(NETWORKS)
    load_operator_file(file)


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    return Workspace(tmp_path / "home", who="ada")


@pytest.fixture
def project(ws: Workspace) -> Project:
    return ws.create_project("Buffers")


def made(name: str, shape: tuple[int, ...] = (1, 8, 8), **arguments: object) -> Model:
    torch.manual_seed(0)
    architecture = Architecture(f"custom/{name}", arguments)
    kind = "image" if len(shape) == 3 else "table"
    spec = InputSpec(kind, shape, (0.0,) * shape[0], (1.0,) * shape[0])
    return assemble(build(architecture).state_dict(), architecture, input=spec, classes="abc")


def without(model: Model, *neurons: int) -> Model:
    assert model.index is not None
    keep = torch.ones(model.index.n, dtype=torch.bool)
    keep[list(neurons)] = False
    return shrink(model, model.index.close(keep))[0]


def test_a_cut_buffer_that_is_not_saved_comes_back_cut(ws: Workspace, project: Project) -> None:
    model = made("scaled")
    assert model.support.level == "full"
    small = without(model, 1, 5)
    assert small.module.scale.flatten().tolist() == [1, 3, 4, 5, 7, 8]
    again = ws.model(ws.commit(project.id, small, name="Smaller").id)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(again(x), small(x))
    assert again.module.scale.flatten().tolist() == [1, 3, 4, 5, 7, 8]
    assert set(again.module.state_dict()) == {"conv.weight", "conv.bias", "head.weight", "head.bias"}
    once_more = without(again, 0)
    assert torch.equal(ws.model(ws.commit(project.id, once_more, name="Smallest").id)(x), once_more(x))


def test_buffers_that_the_constructor_makes_again_are_not_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    store.save(made("scaled"), tmp_path / "whole")
    assert not {"scale", "places"} & load_file(tmp_path / "whole" / store.WEIGHTS).keys()
    store.save(without(made("scaled"), 1), tmp_path / "cut")
    written = load_file(tmp_path / "cut" / store.WEIGHTS)
    assert written["scale"].shape == (7, 1, 1)
    assert "places" not in written


def test_the_loader_of_an_export_puts_a_cut_buffer_in_place(tmp_path: Path) -> None:
    small = without(made("scaled"), 1, 5)
    store.save(small, tmp_path / "stored")
    store.export(tmp_path / "stored", tmp_path / "out", "safetensors")
    code = "import torch; from loader import load; print(load()(torch.ones(1, 1, 8, 8)).tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), small(torch.ones(1, 1, 8, 8)), atol=1e-6)


def test_a_fleet_keeps_the_cut_buffers_of_its_members(tmp_path: Path) -> None:
    members = {"v1.0 small": without(made("scaled"), 1, 5), "v2 whole": made("scaled", width=6)}
    fleet = fleet_of(members, {})
    fleet_store.save(fleet, members, tmp_path)
    again = fleet_store.load(tmp_path)
    x = torch.randn(2, 1, 8, 8)
    proof.same(again, fleet, [x], "Fleet 'Two'")
    assert torch.equal(again(x)["v1.0 small"], members["v1.0 small"](x))
    again.members[0].scale[0] += 0.5
    with pytest.raises(ModelError, match=r"Fleet 'Two' was not kept: read back from its files, an output differs by"):
        proof.same(again, fleet, [x], "Fleet 'Two'")


def test_a_buffer_that_each_construction_draws_anew_is_kept(ws: Workspace, project: Project) -> None:
    model = made("drawn", (4,))
    again = ws.model(ws.commit(project.id, model, name="Original").id)
    assert torch.equal(again.module.mask, model.module.mask)


def test_a_version_that_its_files_do_not_give_back_is_refused(ws: Workspace, project: Project) -> None:
    model = made("drawn", (4,), buffer=False)
    with pytest.raises(
        ModelError, match=r"Version 'Original' was not kept: read back from its files, an output differs"
    ):
        ws.commit(project.id, model, name="Original")
    assert ws.versions(project.id) == []
    assert ws.project(project.id).current is None
    assert list((ws.home / "versions").iterdir()) == list((ws.home / "staging").iterdir()) == []


def test_a_version_that_does_not_run_on_the_data_is_refused(ws: Workspace, project: Project) -> None:
    with pytest.raises(ModelError, match=r"does not run on an input of shape \[2, 5\]"):
        ws.commit(project.id, made("drawn", (4,)), name="Original", sample=torch.zeros(2, 5))
    assert ws.versions(project.id) == []


def test_a_network_that_draws_numbers_at_inference_is_compared_with_the_same_numbers(
    ws: Workspace, project: Project
) -> None:
    assert ws.commit(project.id, made("random", (4,)), name="Original").number == 1
