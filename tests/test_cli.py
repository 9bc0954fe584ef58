"""The whole loop without a browser, through the same jobs that the pages submit."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from surgery import cli_models, jobs
from surgery.cli import main
from surgery.cli_change import parameters
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.errors import SurgeryError
from surgery.network import store
from surgery.network.architectures import build
from surgery.network.load import reopen
from surgery.network.model import Architecture
from surgery.network.read import read
from surgery.operations.forget import Forget
from surgery.operations.patch import Patch
from surgery.ui import serve
from surgery.workspace import Workspace, queue
from tests.conftest import sentences
from tests.patients import mlp, writer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SURGERY_DEVICES", "cpu")
    return tmp_path


def bring(home: Path) -> tuple[str, str]:
    """Import a small MLP and a table; return version and dataset."""
    torch.manual_seed(0)
    module = build(Architecture("mlp", {"sizes": [4, 12, 3]}))
    torch.save({"state_dict": module.state_dict()}, home / "model.pth")
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    np.savez(home / "rows.npz", x=x, y=x[:, :3].argmax(1))
    assert main(["import-model", str(home / "model.pth"), "--project", "trial", "--classes", "a,b,c"]) == 0
    names = ["--classes", "0=a", "1=b", "2=c"]
    assert main(["import-data", str(home / "rows.npz"), "--project", "trial", *names]) == 0
    ws = Workspace()
    (project,) = ws.projects()
    return ws.versions(project.id)[0].id, ws.datasets(project.id)[0].id


def admit(rows: int = 200) -> tuple[str, str]:
    """The same without jobs, for tests of what comes after."""
    ws = Workspace()
    project = ws.create_project("trial").id
    model = replace(mlp((4, 12, 3)), classes=("a", "b", "c"))
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)

    def made(folder: Path) -> Dataset:
        return from_arrays(folder, x, x[:, :3].argmax(1), classes=("a", "b", "c"), name="rows", task="classification")

    return ws.commit(project, model, name="Original").id, ws.add_dataset(project, "rows", made).id


def test_a_table_is_read_as_the_options_say_and_its_classes_are_renamed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (f"{'rgb'[n % 3]},{n},{('train', 'test')[n % 5 == 0]},{'pq'[n % 2]}" for n in range(40))
    (home / "t.csv").write_text("\n".join(("color,n,part,y", *rows)))
    words = ["import-data", str(home / "t.csv"), "--target", "y", "--split-column", "part"]
    assert main([*words, "--column", "color=word"]) == 1
    assert "'word' in 'color=word' is not possible.\nWrite one of number, one-hot," in capsys.readouterr().err
    assert main([*words, "--column", "color=one-hot", "--splits", "test=val", "--classes", "p=zero"]) == 0
    out = capsys.readouterr().out
    assert "split 'train': 32 samples, training\nsplit 'test': 8 samples, validation\n" in out
    ws = Workspace()
    (row,) = ws.datasets(ws.projects()[0].id)
    assert ws.dataset(row.id).features == ("color = b", "color = g", "color = r", "n")
    assert row.classes == ("q", "zero")
    version = ws.commit(row.project, replace(mlp((4, 4, 2)), classes=("0", "1")), name="Original")
    assert main(["relabel", row.id, "--by-order", version.id]) == 1
    printed = capsys.readouterr()
    assert "  q = 0\n  zero = 1\n" in printed.out and "Nothing was renamed yet." in printed.err
    assert main(["relabel", row.id, "--by-order", version.id, "--yes"]) == 0
    new = ws.dataset_row(str(ws.project(row.project).dataset))
    assert new.classes == ("0", "1") and ws.dataset(new.id).reading == ws.dataset(row.id).reading


def test_import_scan_run_undo_export(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, dataset = bring(home)
    said = capsys.readouterr().out
    assert "fully editable: 100% of the parameters are in numbered neurons." in said
    assert "3 classes" in said
    assert main(["scan", version, dataset]) == 0
    capsys.readouterr()
    assert main(["slices", version, dataset, "--theta", "0.9"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1].split(" of ")[1] for line in listed[-4:-1]] == [listed[-2].split(" of ")[1]] * 3
    assert listed[-1].startswith("no class needs ")

    plan = {
        "operation": "prune",
        "parameters": {"remove": [0, 3], "epochs": 1},
        "inputs": [version],
        "dataset": dataset,
    }
    (home / "plan.json").write_text(json.dumps(plan))
    assert main(["settings", "--project", "trial", "--max-drop", "100", "--max-class-drop", "100"]) == 0
    assert "maximum accuracy drop: 100.0 pp overall, 100.0 pp in any class" in capsys.readouterr().out
    assert main(["run", str(home / "plan.json"), "--name", "smaller"]) == 0
    out = capsys.readouterr().out
    assert "fewer parameters" in out

    ws = Workspace()
    project = ws.version(version).project
    made = ws.versions(project)[-1]
    assert ws.project(project).current == made.id
    assert main(["versions", "--project", "trial", "--undo"]) == 0
    assert ws.project(project).current == version
    assert main(["versions", "--verify", version]) == 0
    assert ws.version(version).digest in capsys.readouterr().out

    assert main(["export", made.id, str(home / "plan-again.json"), "--format", "plan"]) == 0
    assert main(["run", str(home / "plan-again.json"), "--name", "again"]) == 0
    assert ws.versions(project)[-1].digest == made.digest, "the same plan gives the same weights"
    assert main(["export", made.id, str(home / "ids.json"), "--format", "ids"]) == 0
    assert json.loads((home / "ids.json").read_text()) == ws.kept(made.id)


def test_change_in_one_call_and_by_its_plan(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, _ = admit()
    words = [
        "change",
        "compress",
        version,
        "parameters=0.7",
        "tolerance=null",
        "order=effect",
        "steps=2",
        "--seed",
        "4",
    ]
    assert main([*words, "--print"]) == 0
    plan = capsys.readouterr().out
    assert json.loads(plan)["parameters"] == {"parameters": 0.7, "tolerance": None, "order": "effect", "steps": 2}
    assert main(words) == 0
    (home / "plan.json").write_text(plan)
    assert main(["run", str(home / "plan.json")]) == 0
    ws = Workspace()
    first, second = ws.versions(ws.version(version).project)[-2:]
    assert first.digest == second.digest
    assert first.parameters < ws.version(version).parameters

    job = next(line.split()[0] for line in listed(capsys) if "Compress" in line)
    assert main(["jobs", "--take", job, "1"]) == 0
    while any(" running " in line or " queued " in line for line in listed(capsys)):
        time.sleep(0.1)
    taken = ws.versions(ws.version(version).project)[-1]
    assert ws.plan(taken.id) == json.loads(plan) | {"parameters": {**json.loads(plan)["parameters"], "candidate": 1}}
    assert main(["change", "compress", version, "smaller"]) == 1
    assert "'smaller' is no parameter" in capsys.readouterr().err


def test_readapt_to_a_drifted_copy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, dataset = admit()
    capsys.readouterr()
    assert main(["drift", dataset, "noise", "--strength", "0.4"]) == 0
    drifted = capsys.readouterr().out.split()[1]
    assert main(["change", "readapt", version, "epochs=2", "--new", drifted]) == 0
    assert "new data" in capsys.readouterr().out
    assert main(["change", "readapt", version]) == 1
    assert "learns from new data" in capsys.readouterr().err
    assert main(["drift", dataset, "pgd"]) == 1
    assert "Name it with --version" in capsys.readouterr().err


def test_teach_new_classes_and_put_the_data_together(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, dataset = admit()
    x = np.random.default_rng(1).normal(size=(120, 4)).astype(np.float32)
    y = np.array(["d", "e"])[(x[:, 3] > 0).astype(int)]
    np.savez(home / "more.npz", x=x, y=y)
    assert main(["import-data", str(home / "more.npz"), "--project", "trial"]) == 0
    ws = Workspace()
    project = ws.version(version).project
    more = next(row.id for row in ws.datasets(project) if row.id != dataset)
    capsys.readouterr()
    words = ["change", "extend", version, "epochs=2", "tolerance=100", "--new", more]
    assert main([*words, "--print"]) == 0
    (home / "plan.json").write_text(capsys.readouterr().out)
    assert main(words) == 0
    assert "new data" in capsys.readouterr().out
    assert main(["run", str(home / "plan.json")]) == 0
    first, second = ws.versions(project)[-2:]
    assert first.digest == second.digest, "the plan gives the same weights"
    assert ws.inspect(first.id)["classes"][-2:] == ["d", "e"]
    assert main(["change", "extend", version, "--new", dataset]) == 1
    assert "knows all 3 classes" in capsys.readouterr().err
    assert main(["join", dataset, more, "--name", "all"]) == 0
    assert ws.dataset_row(capsys.readouterr().out.split()[1]).name == "all"


def listed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of `surgery jobs`."""
    capsys.readouterr()
    assert main(["jobs"]) == 0
    return capsys.readouterr().out.splitlines()


def test_must_keep_cases_and_a_large_mlp(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, dataset = admit()
    pinned = str(Workspace().dataset(dataset).ids("val")[0])
    assert main(["must-keep", dataset, "--pin", pinned]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == f"{pinned}  pinned"
    assert listed[1].startswith("state 1, 1 cases, sha256:")
    words = ["change", "prune", version, 'remove={"ids": [0, 1]}', "--must-keep", "1"]
    assert main([*words, "--print"]) == 0
    assert json.loads(capsys.readouterr().out)["preserve"]["ids"] == [int(pinned)]
    assert main(words) == 0
    assert "protected samples broken" in capsys.readouterr().out
    assert main(["train-mlp", dataset, "--width", "8", "--depth", "1", "--epochs", "2"]) == 0
    assert "MLP 1 × 8  67 parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "name", "kind"),
    [
        (None, "net.safetensors", "safetensors"),
        (None, "net.ONNX", "onnx"),
        (None, "net.zip", "bundle"),
        ("safetensors", "net.zip", "bundle"),
        ("int8", "net.onnx", "int8"),
        ("plan", "anything", "plan"),
    ],
)
def test_the_ending_of_a_file_says_what_is_exported(given: str | None, name: str, kind: str) -> None:
    assert cli_models._format(given, Path(name)) == kind


def test_an_exported_file_of_weights_is_one_that_is_imported_again(home: Path) -> None:
    version, _ = admit()
    assert main(["export", version, str(home / "small.safetensors")]) == 0
    again = reopen(read(home / "small.safetensors"))
    assert again.classes == ("a", "b", "c")
    assert load_file(home / "small.safetensors").keys() == again.module.state_dict().keys()


@pytest.mark.parametrize(
    ("given", "name", "told"),
    [
        (None, "net.pt", r"net\.pt does not tell what to write\. End it with \.safetensors"),
        ("onnx", "net.safetensors", r"writes a \.onnx file, not what net\.safetensors ends with\. Name it net\.onnx"),
        ("safetensors", "net.onnx", r"writes a \.safetensors file.* Name it net\.safetensors"),
    ],
)
def test_an_ending_of_something_else_is_refused(given: str | None, name: str, told: str) -> None:
    with pytest.raises(SurgeryError, match=told):
        cli_models._format(given, Path(name))


def test_names_of_classes_may_be_numbers() -> None:
    assert parameters(["target=9", "others=1"], Patch) == {"target": "9", "others": 1}
    assert parameters(['target="9"'], Patch) == {"target": "9"}
    for word in ("classes=8,9", "classes=[8,9]", 'classes=["8","9"]'):
        assert parameters([word], Forget) == {"classes": ["8", "9"]}
    assert parameters(["classes=001"], Forget) == {"classes": ["001"]}
    assert parameters(['classes="a,b"'], Forget) == {"classes": ["a,b"]}
    assert cli_models.names("[0, 1.50]") == ["0", "1.50"]
    with pytest.raises(SurgeryError, match=r"'\[0,' is no JSON list of names"):
        cli_models.names("[0,")


def test_a_failed_import_leaves_no_project_and_advises_no_retry(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "model.pt").write_bytes(b"%PDF-1.7")
    assert main(["import-model", str(home / "model.pt"), "--project", "new"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("surgery: model.pt is a PDF.")
    assert "--retry" not in said
    assert Workspace().projects() == []
    kept = Workspace().create_project("mine")
    (home / "rows.csv").write_text("x,y\n1,2\n3,4\n")
    assert main(["import-data", str(home / "rows.csv"), "--project", "mine"]) == 1
    assert [one.id for one in Workspace().projects()] == [kept.id]
    (job,) = jobs.jobs(Workspace())
    assert job.refused
    assert main(["jobs", "--retry", job.id]) == 1
    assert "would be refused again: The table has the columns 'x', 'y'" in capsys.readouterr().err


def refused_job(ws: Workspace, reason: str) -> str:
    project = ws.create_project("trial")
    task = {"kind": "inspect_model", "path": "gone.pt"}
    job = queue.add(ws.store, task, project=project.id, title="Look into gone.pt", lane="import", device="", limit=60)
    with ws.store.write() as db:
        queue.end(ws.store, db, job.id, "failed", reason, refused=True)
    return job.id


def test_a_job_is_one_line_whatever_its_reason(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    id = refused_job(Workspace(), "gone.pt is an ONNX model. Convert it:\n\nimport onnx\ngraph = onnx.load()")
    assert main(["jobs"]) == 0
    assert (
        capsys.readouterr().out == f"{id}  failed           Look into gone.pt  gone.pt is an ONNX model. Convert it:\n"
    )


def test_output_that_nobody_reads_ends_quietly(home: Path) -> None:
    refused_job(Workspace(), "x")
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([sys.executable, "-m", "surgery.cli", "jobs"], stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("word", "told"), [("{num_classes: 3}", "is no JSON"), ("[3]", "is no JSON object; write for instance")]
)
def test_arguments_that_are_no_json_object_are_told(word: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["import-model", "net.pt", "--arguments", word])
    assert told in capsys.readouterr().err


def test_compare_and_jobs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, _ = admit()
    assert main(["compare", version]) == 0
    assert "  Accuracy " in capsys.readouterr().out
    ws = Workspace()
    model = replace(mlp((4, 12, 2), seed=1), classes=("a", "c"))
    small = ws.commit(ws.version(version).project, model, name="Small", parent=version, make_current=False).id
    assert main(["compare", version, small]) == 0
    first, removed, headline, *_ = capsys.readouterr().out.splitlines()
    assert (first, removed) == ("v1 Original → v2 Small", "1 of 3 classes removed: b")
    assert headline.startswith("Accuracy over the 2 classes of both ") and "e+" not in headline
    assert main(["jobs"]) == 0
    assert "Compare" in capsys.readouterr().out


def test_class_names_that_are_alike_are_named_or_merged(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n},{n % 7},{('cat', 'Cat', 'dog', 'cat')[n % 4]}\n" for n in range(60))
    (home / "pets.csv").write_text(f"length,width,kind\n{rows}")
    command = ["import-data", str(home / "pets.csv"), "--project", "pets", "--target", "kind"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "3 classes" in out
    assert "class 'Cat': It differs from 'cat' in case only, and was kept apart." in out
    assert main([*command, "--same-names", "merge"]) == 0
    assert "2 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("returns", "possible", "wanted", "found"),
    [
        ({"": [3]}, [""], "", ""),
        ({"logits": [3], "map": [4, 4]}, ["logits"], "", "logits"),
        ({"0": [4], "1": [2]}, ["0", "1"], "1", "1"),
        ({}, [], "", ""),
    ],
)
def test_the_prediction_is_asked_for_where_it_is_open(
    returns: dict[str, list[int]], possible: list[str], wanted: str, found: str
) -> None:
    assert cli_models._prediction({"returns": returns, "predictions": possible}, wanted) == found


def test_several_outputs_are_listed_where_none_is_named() -> None:
    several = {"returns": {"0": [4], "1": [2]}, "predictions": ["0", "1"]}
    with pytest.raises(SurgeryError, match=r"can be its prediction: 0 \[4\], 1 \[2\]") as error:
        cli_models._prediction(several, "")
    assert error.value.fix == "Say which one it is, for instance --output 0."
    with pytest.raises(SurgeryError, match=r"returns no output '2'; it returns 0 \[4\], 1 \[2\]"):
        cli_models._prediction(several, "2")


def test_errors_are_said_and_not_thrown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-data", str(home / "nothing.zip")]) == 1
    assert "does not exist" in capsys.readouterr().err
    (home / "plan.json").write_text('{"operation": "prune", "inputs": ["gone"], "dataset": "d"}')
    assert main(["run", str(home / "plan.json")]) == 1
    assert "surgery:" in capsys.readouterr().err


def test_an_open_address_without_a_login_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SURGERY_TOKEN", raising=False)
    assert main(["--address", "0.0.0.0", "--no-browser"]) == 1
    assert "nothing protects the app" in capsys.readouterr().err


def test_hosts_are_named_in_words_or_refused(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGERY_HOSTS", "lab.example")
    monkeypatch.setattr(serve, "serve", lambda *_given, **_more: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--port", port, "--no-browser"]) == 1
        assert f"Port {port} is taken" in capsys.readouterr().err
    assert main(["--host", "surgery.example", "--host", "10.0.0.5", "--port", port, "--no-browser"]) == 0
    assert os.environ["SURGERY_HOSTS"] == "surgery.example,10.0.0.5,lab.example"
    assert main(["--host", "*", "--no-browser"]) == 1
    assert "'*' is not a host name" in capsys.readouterr().err


def test_a_text_is_imported_and_windows_with_a_phrase_are_pinned(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "story.txt").write_text(sentences(), "utf-8")
    assert main(["import-data", str(home / "story.txt"), "--project", "stories", "--context", "12"]) == 0
    ws = Workspace()
    (project,) = [one for one in ws.projects() if one.name == "stories"]
    (row,) = ws.datasets(project.id)
    assert (row.kind, ws.dataset(row.id).shape) == ("text", (12,))
    capsys.readouterr()
    assert main(["must-keep", row.id, "--contains", "bird"]) == 0
    assert capsys.readouterr().out.count("pinned") == len(ws.must_keep(row.id)[0].pinned) > 0


def test_eight_bits_are_exported_and_measured(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, _ = bring(home)
    capsys.readouterr()
    assert main(["export", version, str(home / "small.onnx"), "--format", "int8"]) == 0
    assert "of the bytes of 32 bits" in capsys.readouterr().out
    assert (home / "small.onnx").stat().st_size > 0


def test_bare_weights_of_a_language_model_take_the_alphabet_of_the_text(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = writer()
    torch.save(model.module.state_dict(), home / "writer.pt")
    assert main(["import-model", str(home / "writer.pt"), "--project", "alone"]) == 1
    assert "is no character" in capsys.readouterr().err
    (home / "story.txt").write_text(sentences(), "utf-8")
    assert main(["import-data", str(home / "story.txt"), "--project", "stories", "--context", "12"]) == 0
    heads = json.dumps(dict(model.architecture.arguments))
    words = ["--project", "stories", "--architecture", "text/decoder", "--arguments", heads]
    assert main(["import-model", str(home / "writer.pt"), *words]) == 0
    ws = Workspace()
    (project,) = [one for one in ws.projects() if one.name == "stories"]
    made = ws.model(ws.versions(project.id)[0].id)
    x = made.input.example(2)
    assert made.input.alphabet == model.classes
    with torch.no_grad():
        assert torch.equal(made.module(x), model.module(x))


def test_models_share_are_watched_and_taken_away(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, dataset = admit(400)
    ws = Workspace()
    project = ws.version(version).project
    other = ws.commit(project, ws.model(version), name="The same again").id
    assert main(["change", "share", version, "samples=40", "--donor", other, "--name", "Edge"]) == 0
    said = capsys.readouterr().out
    assert "weights in memory" in said
    (fleet,) = ws.fleets(project)
    assert said.startswith(f"fleet {fleet.id}  {fleet.digest}")
    assert main(["fleet"]) == 0
    listed = capsys.readouterr().out
    assert "v2 The same again: goes on from v1 Original" in listed
    assert main(["fleet", fleet.id, "--replay", dataset, "--watched", "1", "--export", str(home / "edge.zip")]) == 0
    assert "400 inputs, 0 of them no numbers" in capsys.readouterr().out
    assert (home / "edge.zip").stat().st_size > 1000
    assert main(["fleet", fleet.id, "--take-back", other]) == 0
    assert "v2 The same again: taken back" in capsys.readouterr().out
    assert main(["fleet", fleet.id, "--share-again", "v2 The same again"]) == 0
    assert main(["fleet", fleet.id, "--take-back", "nobody"]) == 1
    assert "has no member 'nobody'" in capsys.readouterr().err
    assert main(["change", "share", version, "--donor", version]) == 1
    assert "is named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["change", "damage", "VERSION", "--seed", "-1"], "seed: -1 is too small; the least is 0"),
        (["change", "damage", "VERSION", "--seed", str(2**200)], "seed: .* is too large"),
        (["change", "damage", "VERSION", "degree=NaN"], "degree: it must be a finite number"),
        (["change", "damage", "VERSION", "--dataset", "nowhere"], "There is no dataset 'nowhere'"),
        (["change", "patch", "VERSION", "target=a"], r"takes 2 model\(s\), 1 given"),
        (["run", "FOLDER"], "cannot be read as a plan"),
        (["run", "BYTES"], "cannot be read as a plan"),
        (["jobs", "--take", "nothing", "x"], "'x' is not the number of a candidate"),
        (["compare", "VERSION", "--dataset", "nowhere"], "There is no dataset 'nowhere'"),
        (["drift", "DATASET", "noise", "--strength", "nan"], "cannot be stored as JSON"),
        (["train-mlp", "DATASET", "--width", "0"], "width: 0 is too small; the least is 1"),
    ],
)
def test_what_cannot_run_is_refused_in_words_without_a_job(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    version, dataset = admit()
    (home / "bytes").write_bytes(b"\xff\xfe\x00")
    given = {"VERSION": version, "DATASET": dataset, "FOLDER": str(home), "BYTES": str(home / "bytes")}
    assert main([given.get(word, word) for word in words]) == 1
    assert re.search(told, capsys.readouterr().err)
    assert jobs.jobs(Workspace()) == []


def test_a_file_that_this_product_saved_is_imported_without_an_architecture(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = replace(mlp((4, 12, 3)), classes=("a", "b", "c"))
    store.save(model, home / "stored")
    file = str(home / "stored" / "model.safetensors")
    assert main(["import-model", file, "--project", "trial", "--classes", "x,y,z"]) == 1
    assert "holds its classes already" in capsys.readouterr().err
    assert main(["import-model", file, "--project", "trial"]) == 0
    assert "mlp  99 parameters, 15 neurons" in capsys.readouterr().out
    ws = Workspace()
    version = ws.versions(ws.projects()[0].id)[0]
    x = torch.randn(5, 4)
    assert torch.equal(ws.model(version.id)(x), model(x))
    assert ws.model(version.id).classes == ("a", "b", "c")


def test_candidates_are_decided_and_settings_changed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version, dataset = admit()
    ws = Workspace()
    project = ws.version(version).project
    made = [
        ws.commit(project, ws.model(version), name=name, parent=version, candidate=("accuracy fell by 9.0 pp",))
        for name in ("good", "bad")
    ]
    assert main(["versions"]) == 0
    assert capsys.readouterr().out.count("candidate: accuracy fell by 9.0 pp") == 2
    assert main(["make-current", made[0].id]) == 0 and main(["discard", made[1].id]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "v2 good is current",
        "v3 bad is in the trash; the current version stays as it is",
    ]
    assert ws.project(project).current == made[0].id and ws.version(made[1].id).state == "trash"
    assert main(["discard", version]) == 1
    assert "Version 1 'Original' is not a candidate" in capsys.readouterr().err
    assert main(["settings", "--trained-on", "yes", "--dataset", dataset]) == 0
    assert f"dataset {dataset}  rows: model was trained on this data" in capsys.readouterr().out
