"""A job's state is true on any machine, in any container and whatever the clock says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import update

from surgery import jobs
from surgery.jobs import Job, worker
from surgery.workspace import Workspace, files, liveness, queue
from surgery.workspace.catalogue import jobs as table
from tests.jobs.conftest import held, wait_until, worker_of
from tests.jobs.sleeper import ENGINE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Be another machine, by its name."""

    def be(name: str) -> None:
        monkeypatch.setenv(liveness.HOST, name)
        liveness.here.cache_clear()

    yield be
    monkeypatch.delenv(liveness.HOST, raising=False)
    liveness.here.cache_clear()


def test_another_machine_leaves_a_living_job_and_its_staging_alone(ws, submit, said, elsewhere, monkeypatch):
    job = submit("sleep", steps=10_000, pause=0.1)
    said(job, "point")
    with files.staging(ws.home, "abc123") as staged:
        elsewhere("another machine")
        there = Workspace(ws.home, who="bob")
        seen = jobs.status(there, job.id, engine=ENGINE)
        assert (seen.state, seen.elsewhere) == ("running", True)
        assert staged.exists()
        elsewhere("")  # home again
        assert not jobs.status(ws, job.id, engine=ENGINE).elsewhere


def test_even_a_dead_one_is_for_its_own_machine_to_judge(ws, submit, said, elsewhere):
    job = submit("sleep", steps=10_000, pause=0.1)
    said(job, "point")
    psutil.Process(job.pid).kill()
    wait_until(lambda: not ENGINE.alive(worker_of(ws, job)), "the worker is gone")
    elsewhere("another machine")
    assert jobs.status(Workspace(ws.home), job.id, engine=ENGINE).state == "running"
    elsewhere("")
    assert "killed (signal 9)" in jobs.status(ws, job.id, engine=ENGINE).reason


def test_cancelled_elsewhere_it_stops_by_itself_and_frees_its_slot(ws, project, elsewhere, monkeypatch, tmp_path):
    """The machine that cancels cannot signal the worker; the worker finds its job ended."""
    program = tmp_path / "quick.py"
    program.write_text(
        "import sys\nfrom surgery.jobs import kinds, worker\nfrom tests.jobs import sleeper\n"
        "kinds.KINDS.update(sleeper.KINDS)\nworker.BEAT = 0.1\n"
        "sys.exit(worker.main(sys.argv[1:], engine=sleeper.ENGINE))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    quick = type(ENGINE)((sys.executable, str(program)))
    task = {"kind": "sleep", "steps": 10_000, "pause": 0.1}
    job = jobs.submit(ws, task, project=project.id, title="Sleep", engine=quick)
    wait_until(lambda: jobs.status(ws, job.id, engine=quick).percent is not None, "it works")
    ended = worker_of(ws, job)
    elsewhere("another machine")
    assert jobs.cancel(Workspace(ws.home), job.id, engine=ENGINE).state == "cancelled"
    assert liveness.held(ended.lock) is True  # it was not ours to end
    elsewhere("")
    wait_until(lambda: not ENGINE.alive(ended), "the worker ends")
    assert held(ws) == [] and jobs.status(ws, job.id, engine=ENGINE).state == "cancelled"


def test_machines_do_not_wait_for_each_others_devices(ws, submit, said, elsewhere):
    first = submit("sleep", steps=10_000, pause=0.1)
    said(first, "point")
    waiting = submit("sleep")
    assert waiting.state == "queued"
    elsewhere("another machine")
    assert jobs.status(Workspace(ws.home), waiting.id, engine=ENGINE).state != "queued"
    wait_until(lambda: jobs.status(ws, waiting.id, engine=ENGINE).state == "done", "it is done there")
    elsewhere("")
    assert jobs.status(ws, first.id, engine=ENGINE).state == "running"


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_changes_nothing(ws, submit, said, monkeypatch, step):
    job = submit("sleep", steps=10_000, pause=0.1, limit=1800.0)
    said(job, "point")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + step)
    monkeypatch.setattr(psutil, "boot_time", lambda: psutil._pslinux.boot_time() + step)
    with files.staging(ws.home, "abc123") as staged:
        assert jobs.status(Workspace(ws.home), job.id, engine=ENGINE).state == "running" and staged.exists()
    monkeypatch.setattr(time, "time", now)
    assert jobs.status(ws, job.id, engine=ENGINE).state == "running"
    jobs.cancel(ws, job.id, engine=ENGINE)
    assert held(ws) == []


def test_a_slot_whose_owner_was_interrupted_is_freed_though_the_clock_went_back(ws, submit, said):
    job = submit("sleep", steps=10_000, pause=0.1)
    said(job, "point")
    with ws.store.write() as db:
        queue.end(ws.store, db, job.id, "cancelled", "Cancelled by somebody who was then killed.")
        db.execute(update(table).where(table.c.id == job.id).values(ended=time.time() + 3600))
    assert held(ws) == []


def test_a_worker_gives_signs_of_life(ws, project, monkeypatch):
    monkeypatch.setattr(worker, "BEAT", 0.01)
    job = queue.add(ws.store, {"kind": "sleep"}, project=project.id, title="x", lane="long", device="", limit=60)
    with ws.store.write() as db:
        queue.claim(
            ws.store, db, queue.waiting(db)[0], "cpu", lambda: queue.Worker(2**22 + 1, 0.0, liveness.here(), None)
        )
    asked: list[int] = []
    running = queue.get(ws.store, job.id)

    def row() -> dict[str, float]:
        with ws.store.read() as db:
            return queue.holders(db)[0]

    with worker._heartbeat(ws, running, asked):
        wait_until(lambda: row()["elapsed"] > 0.02, "it is heard of")
        assert not asked and abs((row()["heartbeat"]) - time.time()) < 30
        with ws.store.write() as db:
            queue.end(ws.store, db, job.id, "cancelled", "elsewhere")
        wait_until(lambda: bool(asked), "it finds its job ended")


def test_from_another_process_namespace_the_job_is_seen_as_it_is(ws, submit, said, tmp_path):
    """As from a container on the same machine: process ids mean something else there, the kernel's locks do not."""
    unshare = shutil.which("unshare")
    can = unshare and not subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True).returncode
    if not can:
        pytest.skip("this machine does not let us make a process namespace")
    job = submit("sleep", steps=10_000, pause=0.1)
    said(job, "point")
    look = (
        "import sys\nfrom pathlib import Path\nfrom surgery import jobs\nfrom surgery.workspace import Workspace\n"
        "from tests.jobs.sleeper import ENGINE\n"
        "print(jobs.status(Workspace(Path(sys.argv[1])), sys.argv[2], engine=ENGINE).state)\n"
    )
    command = [str(unshare), "--pid", "--fork", "--mount-proc", sys.executable, "-c", look, str(ws.home), job.id]
    with files.staging(ws.home, "abc123") as staged:
        seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert seen.stdout.strip() == "running" and staged.exists()
    psutil.Process(job.pid).kill()
    wait_until(lambda: not ENGINE.alive(worker_of(ws, job)), "the worker is gone")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "failed"


def test_a_newborn_worker_is_never_taken_for_dead(ws, submit):
    """It holds its lock before it runs its first line."""
    job: Job = submit("sleep", steps=1)
    assert liveness.held(worker_of(ws, job).lock) is True
