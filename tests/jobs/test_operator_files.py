"""Jobs know the constructors of whoever submitted them, and exports say whether they stand alone."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from surgery import jobs
from surgery.errors import ModelError
from surgery.network import architectures, export_check, operator_files
from surgery.network.architectures import build, load_operator_file, snippet
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec
from surgery.workspace import Project, Workspace
from tests.jobs.conftest import perform, wait_until
from tests.patients import mlp

SPEC = InputSpec("image", (3, 16, 16), (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SURGERY_CONFIG", str(tmp_path / "settings"))
    monkeypatch.delenv("SURGERY_ARCHITECTURES", raising=False)
    monkeypatch.setattr(architectures, "_custom", {})
    monkeypatch.setattr(architectures, "_sources", {})
    file = tmp_path / "own.py"
    file.write_text(snippet())
    return file


def test_a_job_has_the_file_of_its_submitter_whoever_starts_it(
    ws: Workspace,
    project: Project,
    tmp_path: Path,
    own_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two terminals: one submits with the flag, the other, without it, starts the worker and opens the version."""
    save_file(
        architectures._run_file(own_file)["custom/net"].constructor(num_classes=3).state_dict(),
        tmp_path / "w.safetensors",
    )
    task = {
        "kind": "import_model",
        "path": str(tmp_path / "w.safetensors"),
        "name": "Own",
        "architecture": {"name": "custom/net", "arguments": {"num_classes": 3}},
        "input": {"kind": "image", "shape": [3, 16, 16], "mean": [0.0] * 3, "std": [1.0] * 3},
        "classes": ["a", "b", "c"],
    }
    with monkeypatch.context() as first:
        first.setenv("SURGERY_ARCHITECTURES", str(own_file))
        first.setattr("surgery.jobs.engine.pump", lambda *_, **__: None)
        job = jobs.submit(ws, task, project=project.id, title="Import own")
    own_file.unlink()
    wait_until(lambda: not jobs.status(ws, job.id).active, "the import ends", 120)
    done = jobs.status(ws, job.id)
    assert done.state == "done", done.reason
    monkeypatch.setattr(architectures, "_sources", {})
    model = ws.model(done.result["version"])
    assert model.architecture.source == job.task["architectures"]
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 3)


def test_a_task_carries_the_file_and_the_worker_takes_it_alone(
    ws: Workspace, project: Project, own_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ws.commit(project.id, mlp(), name="Original")
    monkeypatch.setenv("SURGERY_ARCHITECTURES", str(own_file))
    monkeypatch.setattr("surgery.jobs.engine.pump", lambda *_, **__: None)  # nobody starts it yet
    task = {"kind": "export", "version": version.id, "format": "safetensors"}
    job = jobs.submit(ws, task, project=project.id, title="Export")
    source = operator_files.checksum(own_file.read_bytes())
    assert job.task["architectures"] == source
    monkeypatch.setenv("SURGERY_ARCHITECTURES", "/what/the/worker/was/started/with.py")
    operator_files.adopt(job.task["architectures"])
    assert os.environ["SURGERY_ARCHITECTURES"] == str(operator_files.registered(source))
    operator_files.adopt("")
    assert "SURGERY_ARCHITECTURES" not in os.environ
    with pytest.raises(ModelError, match=r"The job needs a Python file .* that was never registered here"):
        operator_files.adopt("ab" * 32)


def test_an_export_that_does_not_stand_alone_says_so(
    ws: Workspace, project: Project, tmp_path: Path, own_file: Path
) -> None:
    own_file.write_text("from tests import pico\nARCHITECTURES = {'net': pico.Residual}\n")
    load_operator_file(own_file)
    architecture = Architecture("custom/net")
    spec = replace(SPEC, shape=(1, 8, 8), mean=(0.0,), std=(1.0,))
    model = assemble(build(architecture).state_dict(), architecture, input=spec, classes="abc")
    version = ws.commit(project.id, model, name="Original")
    job = perform(ws, project.id, "export", version=version.id, format="safetensors")
    assert job.result["needs"] == "tests"
    with zipfile.ZipFile(job.result["file"]) as file:
        assert json.loads(file.read("architecture.json"))["definition"]["needs"] == "tests"


def test_an_export_whose_loader_gives_something_else_is_refused(
    ws: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ws.commit(project.id, mlp(), name="Original")
    monkeypatch.setattr(ws, "model", lambda _: mlp(seed=3))
    with pytest.raises(
        ModelError, match="v1 Original was not exported: what its loader rebuilds returns something else"
    ):
        perform(ws, project.id, "export", version=version.id, format="safetensors")


def test_an_export_whose_loader_fails_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text("def load(folder):\n    raise ValueError('no room for the table')\n")
    (tmp_path / "architecture.json").write_text("{}")
    with pytest.raises(ModelError, match="v1 was not exported: its loader fails: no room for the table"):
        export_check.check(tmp_path, torch.nn.Identity(), torch.zeros(1), "v1")
