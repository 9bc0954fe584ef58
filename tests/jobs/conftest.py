"""A workspace whose jobs sleep, fail and refuse to die; every worker is gone at the end of a test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from surgery import jobs
from surgery.context import Context
from surgery.jobs import Job, kinds
from surgery.workspace import Project, Workspace, liveness, queue
from surgery.workspace.queue import Worker
from tests.jobs import sleeper
from tests.patience import SECONDS


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    for name, kind in sleeper.KINDS.items():
        monkeypatch.setitem(kinds.KINDS, name, kind)
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    monkeypatch.setenv("SURGERY_DEVICES", "cpu")
    workspace = Workspace(tmp_path / "home", who="ada")
    yield workspace
    for _ in range(3):  # a worker that ends may just have started the next one
        for job in queue.listing(workspace.store, None):
            if job.active:
                jobs.cancel(workspace, job.id, engine=sleeper.ENGINE)
    wait_until(lambda: not held(workspace), "slots are free")


@pytest.fixture
def project(ws: Workspace) -> Project:
    return ws.create_project("Sleep")


def perform(ws: Workspace, project: str, kind: str, **given: Any) -> Job:
    """Run a task in this process, as a worker would."""
    task = kinds.KINDS[kind].prepare(ws, project, {"kind": kind, **given})
    queued = queue.add(ws.store, task, project=project, title=f"A {kind}", lane="short", device="", limit=60)
    with ws.store.write() as db:
        queue.claim(ws.store, db, queue.waiting(db)[0], "cpu", this_process)
    job = queue.get(ws.store, queued.id)
    job.folder.mkdir(exist_ok=True)
    result = kinds.KINDS[kind].work(ws, job, Context())
    if result is not None:
        with ws.store.write() as db:
            queue.finish(ws.store, db, job.id, result)
    return queue.get(ws.store, job.id)


@pytest.fixture
def submit(ws: Workspace, project: Project) -> Callable[..., Job]:
    def submit(kind: str, *, limit: float | None = None, **task: object) -> Job:
        given = {"kind": kind, **task}
        return jobs.submit(ws, given, project=project.id, title=f"A {kind}", limit=limit, engine=sleeper.ENGINE)

    return submit


@pytest.fixture
def ended(ws: Workspace) -> Callable[..., Job]:
    """Wait for the end of a job."""

    def ended(job: Job, patience: float = SECONDS) -> Job:
        wait_until(lambda: not jobs.status(ws, job.id, engine=sleeper.ENGINE).active, f"{job.title} ends", patience)
        return jobs.status(ws, job.id, engine=sleeper.ENGINE)

    return ended


@pytest.fixture
def said(ws: Workspace) -> Callable[[Job, str], None]:
    """Wait until a job has reported an event with this key."""

    def said(job: Job, key: str) -> None:
        wait_until(lambda: any(key in event for event in jobs.events(ws, job.id, 0)[0]), f"{job.title} says {key}")

    return said


def this_process() -> Worker:
    """What an engine says of a worker in this process; its start is made up, so that nobody ends the tests with it."""
    return Worker(os.getpid(), -1.0, liveness.here(), None)


def worker_of(ws: Workspace, job: Job) -> Worker:
    """The worker of a job that runs."""
    with ws.store.read() as db:
        return next(queue.worker_of(ws.store, row) for row in queue.holders(db) if row["id"] == job.id)


def held(ws: Workspace) -> list[str]:
    """The slots in use."""
    jobs.pump(ws, engine=sleeper.ENGINE)
    with ws.store.read() as db:
        return [row["slot"] for row in queue.holders(db)]


def wait_until(happened: Callable[[], bool], what: str, patience: float = SECONDS) -> None:
    """Look ten times a second, fail after `patience` seconds."""
    end = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < end, f"{what} did not happen within {patience} s"
        time.sleep(0.1)
