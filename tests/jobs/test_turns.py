"""Several processes look after one queue at once."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from surgery.workspace import queue
from surgery.workspace.catalogue import jobs as table


def test_racing_pumps_start_each_job_once_in_order_and_one_per_slot(ws, project, tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_DEVICES", "sim0,sim1")
    queued = [
        queue.add(ws.store, {"kind": kind}, project=project.id, title=kind, lane=lane, device="", limit=60)
        for _ in range(20)
        for kind, lane in (("sleep", "long"), ("nap", "short"))
    ]
    root, diary = Path(__file__).resolve().parents[2], tmp_path / "diary"
    command = [sys.executable, "-m", "tests.jobs.pumper", str(ws.home), str(diary)]
    racers = [subprocess.Popen(command, cwd=root) for _ in range(3)]
    assert [racer.wait(120) for racer in racers] == [0, 0, 0]
    started = diary.read_text().split()
    assert sorted(started) == sorted(job.id for job in queued)
    jobs = {job.id: job for job in queue.listing(ws.store, None)}
    by_slot = defaultdict(list)
    for job in sorted(jobs.values(), key=lambda job: job.started):
        by_slot[job.result["slot"]].append(job.number)
    assert set(by_slot) == {queue.slot(lane, device) for lane in ("long", "short") for device in ("sim0", "sim1")}
    assert all(numbers == sorted(numbers) for numbers in by_slot.values())


def test_the_catalogue_itself_refuses_two_jobs_in_one_slot(ws, project):
    for _ in range(2):
        queue.add(ws.store, {"kind": "sleep"}, project=project.id, title="x", lane="long", device="", limit=60)
    with pytest.raises(IntegrityError), ws.store.write() as db:
        for row in queue.waiting(db):
            db.execute(update(table).where(table.c.id == row["id"]).values(slot="long:cpu"))


def test_a_launch_that_is_not_committed_leaves_the_job_queued(ws, project):
    """Whoever pumps dies between launch and commit: the worker finds that the job is not its own."""
    job = queue.add(ws.store, {"kind": "sleep"}, project=project.id, title="x", lane="long", device="", limit=60)

    def launch() -> queue.Worker:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ws.store.write() as db:
        queue.claim(ws.store, db, queue.waiting(db)[0], "cpu", launch)
    assert queue.get(ws.store, job.id).state == "queued"
    assert queue.enter(ws.store, job.id, 12345) is None
