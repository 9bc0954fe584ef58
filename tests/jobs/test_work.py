"""What the kinds of jobs do, in this process; and one plan from submission to undo in real workers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from surgery import jobs
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.errors import Cancelled, JobError, NotFoundError, PlanError
from surgery.jobs import Job
from surgery.jobs.kinds import KINDS
from surgery.network.model import Origin
from surgery.plan import Plan
from surgery.receipt import Receipt
from surgery.receipt_html import to_html
from surgery.standing import said
from surgery.workspace import DatasetRow, Project, Version, Workspace, queue
from tests.jobs.conftest import this_process, wait_until
from tests.patients import mlp


@pytest.fixture
def data(ws: Workspace, project: Project, pico_table: Dataset) -> DatasetRow:
    def make(folder: Path) -> Dataset:
        shutil.copytree(pico_table.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    return ws.add_dataset(project.id, "boxes", make)


@pytest.fixture
def version(ws: Workspace, project: Project, pico_table: Dataset) -> Version:
    """Random weights, so that what they lose does not matter."""
    ws.set_tolerance(project.id, drop=100, class_drop=100)
    return ws.commit(project.id, replace(mlp(), classes=pico_table.classes), name="Original")


@pytest.fixture
def do(ws: Workspace, project: Project) -> Callable[..., Job]:
    """Run a task here, as a worker would."""

    def do(kind: str, *, before: Callable[[Job], object] = lambda _: None, **given: Any) -> Job:
        task = KINDS[kind].prepare(ws, project.id, {"kind": kind, **given})
        queued = queue.add(ws.store, task, project=project.id, title=f"A {kind}", lane="short", device="", limit=60)
        with ws.store.write() as db:
            queue.claim(ws.store, db, queue.waiting(db)[0], "cpu", this_process)
        job = queue.get(ws.store, queued.id)
        before(job)
        result = KINDS[kind].work(ws, job, Context())
        if result is not None:
            with ws.store.write() as db:
                queue.finish(ws.store, db, job.id, result)
        return queue.get(ws.store, job.id)

    return do


def cut(version: Version, data: DatasetRow, remove: tuple[int, ...] = (1, 2, 9)) -> dict[str, Any]:
    plan = Plan(operation="prune", parameters={"remove": list(remove)}, inputs=(version.id,), dataset=data.id)
    return plan.model_dump(mode="json")


def test_a_plan_makes_a_version_that_explains_itself(ws, project, version, data, do):
    job = do("plan", plan=cut(version, data), name="Smaller")
    assert job.state == "done"
    made = ws.version(job.result["version"])
    assert (made.name, made.parent, made.neurons, made.operation) == ("Smaller", version.id, 14, "Remove neurons")
    assert ws.kept(made.id) == [0, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16]
    assert ws.plan(made.id) == cut(version, data)
    table = {(row["metric"], row["scope"]): row for row in ws.receipt(made.id)["table"]}
    sizes = table["parameters", "overall"]
    assert (sizes["before"], sizes["after"]) == (version.parameters, made.parameters)
    assert ws.project(project.id).current == made.id and "parameters" in said(ws, ws.project(project.id))
    assert ws.undo(project.id).current == version.id and ws.verify(version.id) == version.digest


def test_the_same_plan_gives_the_same_bytes(ws, version, data, do):
    digests = {ws.version(do("plan", plan=cut(version, data)).result["version"]).digest for _ in range(2)}
    assert len(digests) == 1


def test_whoever_moved_on_meanwhile_stays_there(ws, project, version, data, do):
    other = ws.commit(project.id, mlp(seed=5), name="Other", make_current=False)
    job = do("plan", plan=cut(version, data), before=lambda _: ws.make_current(project.id, other.id))
    assert ws.project(project.id).current == other.id
    assert ws.version(job.result["version"]).parent == version.id


def test_a_plan_cancelled_while_it_ran_commits_nothing(ws, project, version, data, do):
    def cancel(job: Job) -> None:
        with ws.store.write() as db:
            queue.end(ws.store, db, job.id, "cancelled", "Cancelled by ada.")

    with pytest.raises(Cancelled, match="before its result could be committed"):
        do("plan", plan=cut(version, data), before=cancel)
    assert [one.id for one in ws.versions(project.id)] == [version.id]
    assert [folder.name for folder in (ws.home / "versions").iterdir()] == [version.id]


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"inputs": ["cafe"]}, NotFoundError, "no version 'cafe'"),
        ({"dataset": "beef"}, NotFoundError, "no dataset 'beef'"),
        ({"operation": "prume"}, PlanError, "no operation 'prume'"),
        ({"parameters": {"remove": "all"}}, PlanError, "remove"),
        ({"extra": 1}, PlanError, "extra"),
    ],
)
def test_a_wrong_plan_is_refused_at_submission(ws, project, version, data, wrong, error, told):
    with pytest.raises(error, match=told):
        jobs.submit(ws, {"kind": "plan", "plan": cut(version, data) | wrong}, project=project.id, title="Cut")
    assert queue.listing(ws.store, None) == []


def test_comparing_two_versions_also_gives_a_receipt(ws, version, data, do):
    made = ws.version(do("plan", plan=cut(version, data)).result["version"])
    result = do("compare", versions=[version.id, made.id], dataset=data.id).result
    assert {row["model"] for row in result["rows"]} == {"v1 Original", f"v2 {made.name}"}
    sizes = next(row for row in result["receipt"]["table"] if row["metric"] == "parameters")
    assert (sizes["before"], sizes["after"]) == (version.parameters, made.parameters)


def test_comparing_three_versions(ws, project, version, data, do):
    others = [ws.commit(project.id, replace(mlp(seed=n), classes=data.classes), name=f"n{n}") for n in (1, 2)]
    result = do("compare", versions=[version.id, *(one.id for one in others)], dataset=data.id).result
    assert {row["model"] for row in result["rows"]} == {"v1 Original", "v2 n1", "v3 n2"}
    assert "receipt" not in result


def test_an_import_of_data_names_its_dataset_and_removes_the_upload_only(ws, project, do, tmp_path):
    table = pd.DataFrame({"a": range(40), "b": [number * 0.5 for number in range(40)], "y": ["x", "z"] * 20})
    own, uploaded = tmp_path / "own.csv", ws.uploads / "uploaded.csv"
    table.to_csv(own, index=False)
    table.to_csv(uploaded, index=False)
    for path in (own, uploaded):
        job = do("import_data", path=str(path), name=path.stem, target="y")
        assert ws.dataset_row(job.result["dataset"]).classes == ("x", "z")
    assert own.exists() and not uploaded.exists()


def test_a_model_saved_here_is_imported_without_questions(ws, version, do):
    job = do("import_model", path=str(version.folder / "model.safetensors"), name="Again")
    again = ws.version(job.result["version"])
    x = torch.randn(3, 4)
    assert torch.equal(ws.model(again.id)(x), ws.model(version.id)(x)) and again.parent is None


def test_a_model_is_imported_into_a_named_architecture(ws, project, version, do):
    task = {
        "path": str(version.folder / "model.safetensors"),
        "architecture": {"name": "mlp", "arguments": {"sizes": [4, 8, 6, 3]}},
        "input": {"kind": "table", "shape": [4], "mean": [0.0] * 4, "std": [2.0] * 4},
        "classes": ["a", "b", "c"],
    }
    made = ws.version(do("import_model", name="Named", **task).result["version"])
    model = ws.model(made.id)
    assert model.classes == ("a", "b", "c") and model.input.std == (2.0,) * 4 and made.operation == "import"


def test_whose_weights_they_are_stays_with_all_that_is_made_of_them(ws, project, version, data, do):
    task = {
        "path": str(version.folder / "model.safetensors"),
        "architecture": {"name": "mlp", "arguments": {"sizes": [4, 8, 6, 3]}},
        "input": {"kind": "table", "shape": [4], "mean": [0.0] * 4, "std": [2.0] * 4},
        "classes": ["long", "wide", "high"],
    }
    given = {"licence": "CC-BY-4.0", "source": "https://example.org/weights"}
    made = ws.version(do("import_model", name="Lent", **given, **task).result["version"])
    brought = f"model.safetensors, {(version.folder / 'model.safetensors').stat().st_size / 1e3:,.1f} kB, float32"
    assert ws.model(made.id).origins == (Origin("Lent", **given, file=brought),)
    plan = Plan(operation="prune", parameters={"remove": {"ids": [0]}}, inputs=(made.id,), dataset=data.id)
    small = ws.version(do("plan", plan=plan.model_dump(mode="json")).result["version"])
    receipt = Receipt.from_json(ws.receipt(small.id))
    assert receipt.origins == [{"name": "Lent", **given, "file": brought}]
    page = to_html(receipt, name=small.name, parent="v1")
    assert "Lent, licence CC-BY-4.0, from https://example.org/weights" in page
    again = do("import_model", path=str(small.folder / "model.safetensors"), name="Again").result["version"]
    assert ws.model(again).origins == ws.model(made.id).origins, "it travels with the file"


def test_a_large_network_is_trained_on_a_table_and_slimmed(ws, project, data, do):
    sizes = {"width": 20, "depth": 2, "epochs": 60}
    large = ws.version(do("build_large", dataset=data.id, name="Large", **sizes).result["version"])
    assert ws.inspect(large.id)["arguments"]["sizes"] == [4, 20, 20, 3]
    assert (large.operation, large.parent) == ("training", None)
    parameters = {"epsilon": 0.5, "tolerance": 30, "epochs": 2}
    plan = Plan(operation="slim_mlp", parameters=parameters, inputs=(large.id,), dataset=data.id)
    slim = ws.version(do("plan", plan=plan.model_dump(mode="json")).result["version"])
    assert slim.parameters < large.parameters
    assert len(ws.kept(slim.id)) == slim.neurons
    with pytest.raises(JobError, match="width: 0 is too small; the least is 1"):
        do("build_large", dataset=data.id, name="None", **{**sizes, "width": 0})


def test_a_result_that_breaks_a_must_keep_case_is_kept_but_not_made_current(ws, project, version, data, do):
    cases = {"size": 4, "least": 0, "shares": {"hard": 1.0}}
    do("must_keep", version=version.id, dataset=data.id, **cases)
    state = ws.must_keep(data.id)[0]
    assert len(state.cases) == 4
    harm = {"operation": "prune", "parameters": {"remove": {"ids": list(range(7))}}, "dataset": data.id}
    about = {**harm, "inputs": [version.id]}
    for may_break, current in ((0, version.id), (4, None)):
        plan = Plan.parse(json.dumps({**about, "preserve": {"ids": state.ids, "may_break": may_break}}))
        assert plan.preserve.digest == state.digest
        made = do("plan", plan=plan.model_dump(mode="json")).result["version"]
        receipt = Receipt.from_json(ws.receipt(made))
        assert (receipt.cases["n"], receipt.cases["right"]) == (4, 4), "only what is right can break"
        assert receipt.cases["broken"]
        assert receipt.breaks == (may_break == 0)
        assert ws.project(project.id).current == (current or made)
        row = receipt.row("must-keep cases")
        assert (row["before"], row["split"], row["n"]) == (1.0, "preserve", 4)
        page = to_html(receipt, name="v2", parent="v1", data=ws.dataset(data.id))
        assert f"{len(receipt.cases['broken'])} of 4 protected samples broken" in page
    unharmed = Plan.parse(json.dumps({**about, "parameters": {"remove": {"ids": [0]}}, "preserve": {"ids": [1, 2]}}))
    assert unharmed.preserve.may_break == 0
    with pytest.raises(PlanError, match="changed by hand"):
        Plan.parse(json.dumps({**about, "preserve": {"ids": [1, 2], "digest": "sha256:0000000000000000"}}))


def test_cases_drawn_anew_keep_the_pinned_ones(ws, version, data, do):
    pinned = int(ws.dataset(data.id).ids("train")[0])
    ws.save_must_keep(data.id, {pinned: "pinned"})
    do("must_keep", version=version.id, dataset=data.id, size=5, least=0, shares={"hard": 1, "diverse": 1})
    assert ws.must_keep(data.id)[0].pinned == (pinned,)
    assert len(ws.must_keep(data.id)[0].cases) == 5


def test_a_scan_leaves_a_table_and_the_projection_adds_the_map(ws, version, data, do, monkeypatch):
    monkeypatch.setattr("surgery.analysis.projection.SMALLEST", 1)
    monkeypatch.setattr("surgery.analysis.projection.umap", lambda rows, seed: torch.ones(len(rows), 2).numpy())
    task = {"version": version.id, "dataset": data.id, "params": {}}
    folder = Path(do("scan", **task).result["folder"])
    table = pd.read_parquet(folder / "neurons.parquet")
    assert ws.has_scan(version.id, data.id, {}) and len(table) == version.neurons
    assert table["map_x"].isna().all() and not table.loc[table["point"], "pca_x"].isna().any()
    do("projection", **task)
    table = pd.read_parquet(folder / "neurons.parquet")
    assert (table.loc[table["point"], "map_x"] == 1).all()
    changed = (folder / "neurons.parquet").stat().st_mtime_ns
    do("scan", **task)
    assert (folder / "neurons.parquet").stat().st_mtime_ns == changed, "a scan is made once"


def test_sensitivity_is_measured_within_its_time_and_goes_on_from_there(ws, version, data, do):
    task = {"version": version.id, "dataset": data.id, "params": {}}
    first = do("sensitivity", **task, seconds=0.0).result
    assert first["tested"] == 0 < first["all"]
    then = do("sensitivity", **task).result
    table = pd.read_parquet(Path(then["folder"]) / "sensitivity.parquet")
    assert then["tested"] == table["tested"].sum() == then["all"]
    assert table["loss_change"].notna().all()


def test_a_projection_follows_on_a_scan(ws, project, version, data):
    task = {"kind": "scan", "version": version.id, "dataset": data.id, "params": {}}
    job = jobs.submit(ws, task, project=project.id, title="Scan v1")
    wait_until(lambda: len(jobs.jobs(ws, project.id)) == 2 and not any(j.active for j in jobs.jobs(ws)), "both")
    projected, scanned = jobs.jobs(ws, project.id)
    assert (scanned.id, scanned.state, projected.state) == (job.id, "done", "done"), projected.reason
    assert (projected.kind, projected.title, projected.who) == ("projection", "Scan v1: projection", "ada")


def test_from_submission_to_undo_in_a_real_worker(ws, project, version, data):
    job = jobs.submit(ws, {"kind": "plan", "plan": cut(version, data)}, project=project.id, title="Cut")
    wait_until(lambda: not jobs.status(ws, job.id).active, "the plan ends")
    done = jobs.status(ws, job.id)
    assert done.state == "done", done.reason
    made = ws.version(done.result["version"])
    assert ws.project(project.id).current == made.id and ws.verify(made.id) == made.digest
    stages = {event["stage"] for event in jobs.events(ws, job.id, 0)[0] if "stage" in event}
    assert {"loading", "saving"} <= stages
    assert ws.undo(project.id).current == version.id and ws.verify(version.id) == version.digest
