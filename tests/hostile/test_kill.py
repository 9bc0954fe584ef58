"""kill -9 at random moments: what is there afterwards is whole, and the queue goes on."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.plan import Plan
from surgery.workspace import Workspace
from tests.hostile import committer
from tests.patients import mlp

pytestmark = pytest.mark.hostile


def test_committers_killed_at_random_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    ws = Workspace(tmp_path / "home")
    project = ws.create_project("Digits")
    ws.commit(project.id, mlp(), name="Original")
    moments = random.Random(0)
    for _ in range(12):
        child = committer.start(committer.commit_for_ever, ws.home, project.id)
        seen = len(ws.versions(project.id))
        while len(ws.versions(project.id)) == seen and child.is_alive():
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        child.kill()
        child.join(60)
        assert child.exitcode == -9
        assert committer.corrupt(ws.store) == []
    assert len(ws.versions(project.id)) > 12
    assert [v.number for v in ws.versions(project.id)] == list(range(1, len(ws.versions(project.id)) + 1))


@pytest.mark.parametrize("stage", ["loading", "averaging activations", "timing, batch 32", "saving"])
def test_a_real_worker_killed_at_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pico_table: Dataset, stage: str
):
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    monkeypatch.setenv("SURGERY_DEVICES", "cpu")
    ws = Workspace(tmp_path / "home")
    project = ws.create_project("Boxes")

    def make(folder: Path) -> Dataset:
        shutil.copytree(pico_table.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    data = ws.add_dataset(project.id, "boxes", make)
    root = ws.commit(project.id, replace(mlp(), classes=pico_table.classes), name="Original")
    plan = Plan(operation="prune", parameters={"remove": [1]}, inputs=(root.id,), dataset=data.id)
    task = {"kind": "plan", "plan": plan.model_dump(mode="json")}
    job = jobs.submit(ws, task, project=project.id, title="Cut")
    report = ws.home / "jobs" / job.id / "events.jsonl"
    while f'"stage": "{stage}"' not in report.read_text():
        assert jobs.status(ws, job.id).active, jobs.log_tail(ws, job.id)
        time.sleep(0.002)
    psutil.Process(job.pid).kill()
    while jobs.status(ws, job.id).active:
        time.sleep(0.05)
    ended = jobs.status(ws, job.id)
    assert committer.corrupt(ws.store) == []
    made = [version.id for version in ws.versions(project.id)][1:]
    if ended.state == "done":  # the blow came after the commit
        assert made == [ended.result["version"]]
    else:
        assert made == [] and "killed (signal 9)" in ended.reason
        assert ws.project(project.id).current == root.id
