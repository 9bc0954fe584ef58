"""How long does a person wait for a job, and what does killing one leave behind?

Real prune plans of the digits sample in real workers; seconds are ratios to an empty process that imports torch, in
turns with it. A first batch is the first step that a worker reports after
loading; a process is gone when the system no longer knows it. Workers are killed with signal 9, half of them at any
moment of their life, half within the blink in which they save and commit.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

import sample_models
from benchmarks.reference import torch_import
from surgery import jobs
from surgery.errors import SurgeryError
from surgery.jobs import Job
from surgery.network import store
from surgery.plan import Plan
from surgery.workspace import Workspace

SAMPLE = "digits"
QUEUED, KILLS, QUICK_KILLS = 20, 100, 10
TRIES, QUICK_TRIES = 5, 1
ENDLESS = 100  # epochs, the most that a plan may ask for
COMMITTING = 0.15  # seconds that a commit may take, fsync included
PATIENCE = 120.0


def measure(*, quick: bool) -> dict[str, Any]:
    """The worst ratios to a process that imports torch; pairs out of order; versions that are not whole after kills."""
    tries = QUICK_TRIES if quick else TRIES
    with tempfile.TemporaryDirectory() as home:
        room = Room(Path(home))
        try:
            turns = [(torch_import(1), *room.endless()) for _ in range(tries)]
            violations = room.out_of_order(QUEUED // 5 if quick else QUEUED)
            killed = room.kill(QUICK_KILLS if quick else KILLS)
        finally:
            room.close()
    names = ("torch imported", "submit to first batch", "cancel to gone", "short job behind a long one")
    return {
        "submit_to_first_batch_ratio": max(first / empty for empty, first, _, _ in turns),
        "cancel_to_gone_ratio": max(cancelled / empty for empty, _, cancelled, _ in turns),
        "fifo_violations": violations,
        "short_behind_long_ratio": max(short / empty for empty, _, _, short in turns),
        **killed,
        "table": [dict(zip(names, turn, strict=True)) for turn in turns],
    }


class Room:
    """A workspace with the sample in it."""

    def __init__(self, home: Path) -> None:
        self.ws = Workspace(home)
        self.project = self.ws.create_project("Jobs").id
        self.dataset = self.ws.add_dataset(self.project, SAMPLE, partial(sample_models.make_data, SAMPLE)).id
        model = store.load(sample_models.model_folder(SAMPLE))
        self.version = self.ws.commit(self.project, model, name="Original").id

    def prune(self, epochs: int = 0) -> Job:
        """Submit a plan that removes one neuron and tunes."""
        plan = Plan(
            operation="prune",
            parameters={"remove": [1], "epochs": epochs},
            inputs=(self.version,),
            dataset=self.dataset,
        )
        task = {"kind": "plan", "plan": plan.model_dump(mode="json")}
        return jobs.submit(self.ws, task, project=self.project, title="Prune")

    def endless(self) -> tuple[float, float, float]:
        """Seconds to a long job's first batch, to its end by cancel, and to a short one's first batch meanwhile."""
        long, first = timed(lambda: self.prune(ENDLESS), self.first_batch)
        self.wait_for(long, "tuning")
        params = {"limit": 500 + len(jobs.jobs(self.ws))}  # one that was not made yet
        scan = {"kind": "scan", "version": self.version, "dataset": self.dataset, "params": params}
        short, behind = timed(lambda: jobs.submit(self.ws, scan, project=self.project, title="Scan"), self.first_batch)
        self.end_of(short)
        worker, start = self.status(long), time.monotonic()
        jobs.cancel(self.ws, long.id)
        until(lambda: self.gone(worker), "the end of a cancelled worker")
        cancelled = time.monotonic() - start
        until(lambda: not any(job.active for job in jobs.jobs(self.ws)), "an empty queue")
        return first, cancelled, behind

    def out_of_order(self, count: int) -> int:
        """Jobs of one slot that started before the one ahead of them had started and ended."""
        queued = [self.prune() for _ in range(count)]
        ended = [self.end_of(job, PATIENCE * count) for job in queued]
        lost = sum(job.state != "done" for job in ended)
        return lost + sum(not before.ended <= after.started for before, after in itertools.pairwise(ended))

    def kill(self, count: int) -> dict[str, Any]:
        """Kill workers at random moments; look at everything after each."""
        moments, corrupt, reasons = random.Random(0), 0, 0
        life = timed(self.prune, lambda job: not self.status(job).active)[1]
        for number in range(count):
            job = self.prune()
            worker = psutil.Process(job.pid)
            if number % 2:
                self.wait_for(job, "saving")
                time.sleep(moments.uniform(0, COMMITTING))
            else:
                time.sleep(moments.uniform(0, life))
            with suppress(psutil.NoSuchProcess):
                worker.kill()
            ended = self.end_of(job)
            reasons += ended.state == "failed" and "signal 9" in ended.reason
            corrupt += self.corrupt(ended)
        return {"corrupt_versions": corrupt, "killed": count, "killed_before_the_commit": reasons}

    def corrupt(self, job: Job) -> int:
        """Versions and folders that are not whole after `job`, opening the workspace anew."""
        ws = Workspace(self.ws.home)
        versions = ws.versions(self.project)
        folders = {path.name for path in (ws.home / "versions").iterdir()}
        wrong = len(folders ^ {version.id for version in versions}) + len(list((ws.home / "staging").iterdir()))
        for version in versions[-3:]:
            try:
                ws.verify(version.id)
                ws.model(version.id)
            except SurgeryError:
                wrong += 1
        made = job.state == "done"
        return wrong + (made != (versions[-1].id == job.result.get("version")))

    def status(self, job: Job) -> Job:
        """The job now."""
        return jobs.status(self.ws, job.id)

    def gone(self, job: Job) -> bool:
        """Whether the system no longer knows a job's process."""
        jobs.pump(self.ws)
        return not psutil.pid_exists(job.pid or 0)

    def first_batch(self, job: Job) -> bool:
        """Whether a step after loading was done."""
        return any(event.get("done") and event.get("stage") != "loading" for event in self.events(job))

    def wait_for(self, job: Job, stage: str) -> None:
        """Wait until a job has come to a stage whose name starts like this, or to its end."""

        def there() -> bool:
            return any(event.get("stage", "").startswith(stage) for event in self.events(job))

        until(lambda: there() or not self.status(job).active, stage)

    def end_of(self, job: Job, patience: float = PATIENCE) -> Job:
        """Wait until a job has ended."""
        until(lambda: not self.status(job).active, f"the end of {job.title!r}", patience)
        return self.status(job)

    def events(self, job: Job) -> list[dict[str, Any]]:
        """All that a job has reported."""
        return jobs.events(self.ws, job.id, 0)[0]

    def close(self) -> None:
        """Leave no worker behind."""
        for job in jobs.jobs(self.ws):
            if job.active:
                jobs.cancel(self.ws, job.id)


def timed(start: Callable[[], Job], happened: Callable[[Job], bool]) -> tuple[Job, float]:
    """A job and the seconds from before its submission until something happened."""
    begun = time.monotonic()
    job = start()
    until(lambda: happened(job), job.title)
    return job, time.monotonic() - begun


def until(happened: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Look 50 times a second.

    Raises:
        TimeoutError: it did not happen.
    """
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {patience:.0f} s")
        time.sleep(0.02)
