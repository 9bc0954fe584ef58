"""The queue as its users see it: submitted, watched, cancelled, retried, found again after a restart."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from collections import namedtuple
from dataclasses import replace

import psutil
import pytest

from surgery import jobs
from surgery.errors import DataError, JobError, NotFoundError
from surgery.jobs.kinds import KINDS
from surgery.workspace import Workspace, queue
from tests.jobs import sleeper
from tests.jobs.conftest import held, wait_until, worker_of

ENGINE = sleeper.ENGINE


def status(ws, job):
    return jobs.status(ws, job.id, engine=ENGINE)


def test_a_job_runs_and_leaves_its_result_report_and_log(ws, submit, ended):
    job = submit("sleep", steps=3)
    assert job.state == "running" and job.who == "ada" and job.device == "cpu" and psutil.pid_exists(job.pid)
    done = ended(job)
    assert (done.state, done.percent, done.reason) == ("done", 100.0, "")
    assert done.result["device"] == "cpu" and done.result["CUDA_VISIBLE_DEVICES"] == "-1"
    assert done.result["nice"] == 10 and done.result["SURGERY_HOME"] == str(ws.home)
    assert done.created <= done.started <= done.ended
    events, end = jobs.events(ws, job.id, 0)
    assert [event["point"]["loss"] for event in events if "point" in event] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert jobs.events(ws, job.id, end) == ([], end)
    assert jobs.log_tail(ws, job.id).splitlines() == ["slept well", "a library prints"]
    assert [event.what for event in ws.events(job.project)][:3] == [
        "finished 'A sleep'",
        "started 'A sleep' on cpu",
        "queued 'A sleep'",
    ]


def test_progress_is_what_the_worker_said_last(ws, submit, said):
    job = submit("sleep", steps=1000, pause=0.05)
    said(job, "point")
    wait_until(lambda: (status(ws, job).percent or 0) > 0, "progress")
    now = status(ws, job)
    assert now.stage == "sleeping" and 0 < now.percent < 100 and 1 < now.eta < 1000


def test_events_are_read_by_offset_and_never_cut(ws, submit, ended):
    job = ended(submit("nap"))
    path = job.folder / "events.jsonl"
    whole, end = jobs.events(ws, job.id, 0)
    with path.open("a") as file:
        file.write('{"point": {"loss"')
    assert jobs.events(ws, job.id, end) == ([], end)
    with path.open("a") as file:
        file.write(": 2}}\nnot json\n")
    assert jobs.events(ws, job.id, end)[0] == [{"point": {"loss": 2}}, {"log": "not json"}]
    assert jobs.events(ws, job.id, 0)[0][: len(whole)] == whole


def test_jobs_of_one_slot_run_one_by_one_in_order(ws, submit, ended):
    queued = [submit("sleep", pause=0.05) for _ in range(6)]
    spans = [(done.result["start"], done.result["end"]) for done in map(ended, queued)]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def test_a_short_job_does_not_wait_for_a_long_one(ws, submit, ended, said):
    long = submit("sleep", steps=10_000, pause=0.1)
    said(long, "point")
    short = ended(submit("nap"))
    assert short.state == "done" and status(ws, long).state == "running"


def test_two_devices_run_two_long_jobs_at_once_and_a_third_waits(ws, submit, ended, said, monkeypatch):
    monkeypatch.setenv("SURGERY_DEVICES", "sim0,sim1")
    first, second, third = (submit("sleep", steps=10_000, pause=0.1) for _ in range(3))
    said(first, "point")
    said(second, "point")
    assert {status(ws, first).device, status(ws, second).device} == {"sim0", "sim1"}
    assert status(ws, third).state == "queued"
    jobs.cancel(ws, second.id, engine=ENGINE)
    said(third, "point")
    assert status(ws, third).device == second.device and status(ws, first).state == "running"


def test_a_job_for_one_device_waits_for_that_one_and_lets_others_pass(ws, submit, said, monkeypatch):
    monkeypatch.setenv("SURGERY_DEVICES", "sim0,sim1")
    first = submit("sleep", steps=10_000, pause=0.1, device="sim0")
    picky = submit("sleep", device="sim0")
    anywhere = submit("sleep", steps=10_000, pause=0.1, device="cpu")
    said(first, "point")
    assert status(ws, picky).state == "queued"
    assert (status(ws, anywhere).state, status(ws, anywhere).device) == ("running", "sim1")


def test_cancelling_a_queued_job_never_starts_it(ws, submit):
    submit("sleep", steps=10_000, pause=0.1)
    waiting = submit("sleep")
    cancelled = jobs.cancel(ws, waiting.id, engine=ENGINE)
    assert (cancelled.state, cancelled.started, cancelled.reason) == ("cancelled", None, "Cancelled by ada.")
    assert not cancelled.folder.exists()


def test_cancelling_a_running_job_ends_its_process(ws, submit, said):
    job = submit("sleep", steps=10_000, pause=0.1)
    said(job, "point")
    worker = worker_of(ws, job)
    cancelled = jobs.cancel(ws, job.id, engine=ENGINE)
    assert cancelled.state == "cancelled" and not ENGINE.alive(worker)
    assert held(ws) == []


@pytest.mark.parametrize("kind", ["stubborn", "native"])
def test_cancelling_works_inside_native_code(ws, submit, said, kind):
    job = submit(kind)
    said(job, "log" if kind == "stubborn" else "stage")
    worker = worker_of(ws, job)
    jobs.cancel(ws, job.id, engine=ENGINE)
    assert held(ws) == [] and not ENGINE.alive(worker)


def test_cancelling_a_finished_job_changes_nothing(ws, submit, ended):
    done = ended(submit("nap"))
    assert jobs.cancel(ws, done.id, engine=ENGINE) == done


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("plainly", r"^Row 7 has no label\. Fill it in\.$"),
        ("surprisingly", r"^A fault in Model Surgery stopped the work while starting\..*Try again.*the job's log"),
        ("memory", "'cpu' ran out of memory.*smaller batch"),
        ("cuda", "'cpu' ran out of memory.*smaller batch"),
        ("killed", r"killed \(signal 9\).*Nothing was changed"),
        ("crash", r"crashed in native code \(Segmentation fault\)"),
    ],
)
def test_a_failure_tells_its_reason(ws, submit, ended, how, told):
    failed = ended(submit("fail", how=how))
    assert failed.state == "failed" and failed.ended is not None
    with pytest.raises(DataError, match=told):
        raise DataError(failed.reason)
    assert held(ws) == []


def test_an_unexpected_error_leaves_its_traceback_in_the_log(ws, submit, ended):
    failed = ended(submit("fail", how="surprisingly"))
    assert "ZeroDivisionError" in jobs.log_tail(ws, failed.id) and "Traceback" in jobs.log_tail(ws, failed.id)


def test_the_time_limit_ends_a_job_politely(ws, submit, ended):
    failed = ended(submit("sleep", steps=10_000, pause=0.1, limit=1.5))
    assert failed.state == "failed" and "longer than its time limit of 2 s" in failed.reason


def test_the_time_limit_also_ends_a_job_that_hears_nothing(ws, submit, ended, monkeypatch):
    monkeypatch.setattr("surgery.jobs.turns._LATE", 0.5)
    failed = ended(submit("stubborn", limit=1.5))
    assert failed.state == "failed" and "time limit" in failed.reason
    assert held(ws) == []


def test_retry_makes_a_new_job_of_the_same_task(ws, submit, ended):
    failed = ended(submit("fail", how="surprisingly"))
    again = jobs.retry(ws, failed.id, engine=ENGINE)
    assert again.id != failed.id and dict(again.task) == dict(failed.task)
    assert status(ws, failed).state == "failed"
    running = submit("sleep", steps=10_000, pause=0.1)
    with pytest.raises(JobError, match="still running"):
        jobs.retry(ws, running.id, engine=ENGINE)


def test_the_queue_goes_on_without_anybody_watching(ws, submit):
    last = [submit("sleep") for _ in range(3)][-1]
    path = ws.home / "jobs" / last.id / "events.jsonl"
    wait_until(lambda: path.exists() and "slept well" in path.read_text(), "the last job was started by the one before")


def test_an_import_waits_neither_for_long_work_nor_for_short(ws, submit, said):
    for kind in ("sleep", "stubborn"):
        said(submit(kind, steps=10_000, pause=0.1), "point" if kind == "sleep" else "log")
    said(submit("bring", steps=10_000, pause=0.1), "point")
    lanes = {name: kind.lane for name, kind in KINDS.items()}
    assert {name for name, lane in lanes.items() if lane == "import"} == {
        *("bring", "import_data", "import_model", "inspect_model", "open_sample")
    }


def test_what_was_refused_is_not_tried_again_until_its_file_changes(ws, project, tmp_path):
    file = tmp_path / "net.pt"
    file.write_text("no weights")
    os.utime(file, (1, 1))
    task = {"kind": "inspect_model", "path": str(file)}
    job = queue.add(ws.store, task, project=project.id, title="Look", lane="import", device="", limit=60)
    with ws.store.write() as db:
        queue.end(ws.store, db, job.id, "failed", "net.pt is text.", refused=True)
    with pytest.raises(JobError, match=r"'Look' would be refused again: net\.pt is text\."):
        jobs.retry(ws, job.id, engine=ENGINE)
    os.utime(file)
    later = time.time() + 60
    os.utime(file, (later, later))
    again = jobs.retry(ws, job.id, engine=ENGINE)
    jobs.cancel(ws, again.id, engine=ENGINE)
    assert dict(again.task) == task


def test_workers_that_ended_do_not_stay_as_zombies(ws, submit, ended):
    pids = [ended(submit("nap")).pid for _ in range(2)]

    def reaped() -> bool:
        jobs.pump(ws, engine=ENGINE)
        return not any(psutil.pid_exists(pid) for pid in pids)

    wait_until(reaped, "their end is taken note of")


def test_a_restarted_app_finds_its_jobs(ws, submit, said, ended):
    job = submit("sleep", steps=10, pause=0.1)
    said(job, "point")
    restarted = Workspace(ws.home)
    found = jobs.jobs(restarted, job.project, engine=ENGINE)
    assert [one.id for one in found] == [job.id] and found[0].state == "running" and found[0].pid == job.pid
    assert ended(job).state == "done"


def test_a_worker_that_died_while_the_app_was_down_is_found_failed_and_the_queue_goes_on(ws, submit, said, ended):
    first = submit("sleep", steps=10_000, pause=0.1)
    second = submit("sleep")
    said(first, "point")
    psutil.Process(first.pid).kill()
    found = {job.id: job for job in jobs.jobs(Workspace(ws.home), engine=ENGINE)}
    wait_until(lambda: status(ws, first).state == "failed", "the death is noticed")
    assert first.id in found and "signal 9" in status(ws, first).reason
    assert ended(second).state == "done"


def test_a_number_that_belongs_to_another_process_now_is_left_alone(ws, submit, said):
    job = submit("sleep", steps=10_000, pause=0.1)
    said(job, "point")
    worker = replace(worker_of(ws, job), lock=None)
    assert ENGINE.alive(worker)
    assert not ENGINE.alive(replace(worker, born=worker.born - 100))
    assert not ENGINE.alive(replace(worker, pid=os.getpid(), born=0.0))
    ENGINE.stop(replace(worker, born=0.0))
    assert status(ws, job).state == "running"


def test_submission_is_refused_for_unknown_kinds_devices_and_projects(ws, submit, project):
    with pytest.raises(JobError, match=r"no kind of job 'fly'; there are .*import_data.*plan"):
        submit("fly")
    with pytest.raises(JobError, match="no device 'cuda:3'; it has cpu"):
        submit("sleep", device="cuda:3")
    with pytest.raises(NotFoundError, match="no project"):
        jobs.submit(ws, {"kind": "nap"}, project="beef", title="x", engine=ENGINE)
    assert jobs.jobs(ws, engine=ENGINE) == []


def test_too_little_free_disk_is_refused_before_the_start(ws, submit):
    with pytest.raises(JobError, match=r"needs 1,000,000,0.* MB of free disk, .* MB are free.*empty the trash"):
        submit("greedy")


def test_a_disk_that_filled_up_while_the_job_waited_fails_it_at_its_turn(ws, submit, ended, monkeypatch):
    first = submit("sleep", steps=10_000, pause=0.1)
    second = submit("sleep")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1000))
    jobs.cancel(ws, first.id, engine=ENGINE)
    failed = status(ws, second)
    assert failed.state == "failed" and "could not be started: The job needs" in failed.reason


def test_a_project_with_unfinished_jobs_is_not_deleted(ws, submit, project):
    submit("sleep", steps=10_000, pause=0.1)
    with pytest.raises(Exception, match="has 1 unfinished job"):
        ws.trash_project(project.id)


def test_the_worker_of_a_job_that_was_not_given_to_it_leaves(ws, submit, said):
    job = submit("sleep", steps=10_000, pause=0.1)
    said(job, "point")
    stranger = subprocess.run(
        [*ENGINE.command, job.id], env={**os.environ, "SURGERY_HOME": str(ws.home)}, capture_output=True, check=False
    )
    assert stranger.returncode == 1 and stranger.stdout == b""
    assert status(ws, job).pid == job.pid and json.dumps(dict(status(ws, job).result)) == "{}"
