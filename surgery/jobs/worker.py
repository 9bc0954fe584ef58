"""The one function that any engine executes: load, run, commit, report. `python -m surgery.jobs.worker JOB_ID`

Events go to standard output as JSON lines; whatever else is printed goes to the error output. The worker leaves
when it finds that the job was not given to it.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import NoReturn, TextIO

from surgery import temporary
from surgery.context import Context
from surgery.errors import Cancelled, JobError, SurgeryError, is_refusal
from surgery.jobs import memory
from surgery.jobs.devices import only
from surgery.jobs.engine import submit
from surgery.jobs.kinds import KINDS
from surgery.jobs.local import LOCAL
from surgery.jobs.obituary import overdue, reason_of, told_of
from surgery.jobs.turns import Engine, pump
from surgery.network import operator_files
from surgery.workspace import Workspace, queue
from surgery.workspace.rows import Job, JobState

NICENESS = {"import": 5, "short": 5, "long": 10}  # pages come before short jobs, short ones before long ones
BEAT = 10.0  # seconds between two signs of life
_ENDED = 0  # beside numbers of signals: the job's row says that it has ended
_LAST_RESORT = 5.0  # seconds after the limit when a worker stuck in native code is ended by a watchdog thread in C


def main(arguments: Sequence[str], engine: Engine = LOCAL) -> int:
    """Do the job named by the one argument; the exit code says whether the job was ours to do."""
    faulthandler.enable()
    report = _reporter(_own_output())
    ws = Workspace()
    job = queue.enter(ws.store, arguments[0], os.getpid())
    if job is None:
        return 1
    os.nice(max(0, NICENESS[job.lane] - os.nice(0)))  # only ever up: whoever launched us may be nicer already
    ws = ws.acting_as(job.who)
    temporary.sweep()
    _run(ws, job, report)
    if KINDS[job.kind].then:
        _go_on(ws, job.id, engine)
    pump(ws, engine=engine)
    return 0


def _run(ws: Workspace, job: Job, report: Callable[[Mapping[str, object]], None]) -> None:
    """Work, and record how it ended."""
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    stage = Stage(report)
    _limit(job.limit)
    watch: memory.Watch | None = None
    try:
        watch = _watch_memory(job)
        with _heartbeat(ws, job, asked_to_stop), only(job.device) as device:
            ctx = Context(device=device, report=stage, cancelled=lambda: bool(asked_to_stop))
            operator_files.adopt(str(job.task.get("architectures", "")))
            result = KINDS[job.kind].work(ws, job, ctx)
        if result is not None:
            with ws.store.write() as db:
                queue.finish(ws.store, db, job.id, result)
    except Cancelled as error:
        outside = f"The worker was asked to stop from outside (signal 15). {error.what}"
        _end(ws, job, "failed", outside, unseen=_ENDED in asked_to_stop)
    except Exception as error:
        logging.exception("The job failed.")
        reason = reason_of(error, job.device, told_of(stage.name, job.task))
        _end(ws, job, "failed", reason, refused=is_refusal(error))
    finally:
        if watch is not None:
            watch.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _heartbeat(ws: Workspace, job: Job, asked_to_stop: list[int]) -> Iterator[None]:
    """Give signs of life meanwhile; a job that was ended on another machine, which cannot signal us, is stopped."""
    start, over = time.monotonic(), threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                if not queue.beat(ws.store, job.id, time.monotonic() - start) and not over.is_set():
                    asked_to_stop.append(_ENDED)
            except SurgeryError:  # the catalogue is busy or cannot be reached: the work goes on
                logging.warning("no sign of life could be recorded", exc_info=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Stage:
    """Passes events on, and remembers the stage that the last one named."""

    def __init__(self, report: Callable[[Mapping[str, object]], None]) -> None:
        self.report, self.name = report, ""

    def __call__(self, event: Mapping[str, object]) -> None:
        """Report an event."""
        self.name = str(event.get("stage", self.name))
        self.report(event)


def _watch_memory(job: Job) -> memory.Watch:
    """Raise in the main thread when the job takes more memory than it may, and end the process when that is too late.

    Raises:
        JobError: the limit that is set is no size.
    """
    limit = memory.limit_for(job.lane)

    def ring(_number: int, _frame: FrameType | None) -> NoReturn:
        raise memory.over(limit)

    signal.signal(signal.SIGUSR1, ring)
    tell = partial(signal.pthread_kill, threading.main_thread().ident or 0, signal.SIGUSR1)
    return memory.Watch(limit, told=tell, end=partial(memory.end_at_once, limit)).start()


def _go_on(ws: Workspace, job_id: str, engine: Engine) -> None:
    """Queue what follows on a job that is done."""
    job = queue.get(ws.store, job_id)
    if job.state == "done":
        following = KINDS[job.kind].then
        task = {**job.task, "kind": following}
        try:
            submit(ws, task, project=job.project, title=f"{job.title[:100]}: {following}", engine=engine)
        except SurgeryError as error:  # what the job was about went into the trash meanwhile
            logging.warning("%s does not follow: %s", following, error)


def _end(ws: Workspace, job: Job, state: JobState, reason: str, *, unseen: bool = False, refused: bool = False) -> None:
    """Record an end that is not success. One that its owner cancelled stays cancelled, and its slot is freed by whoever
    sees this process gone; on another machine nobody can.
    """
    with ws.store.write() as db:
        if queue.end(ws.store, db, job.id, state, reason, refused=refused) or unseen:
            queue.release(db, job.id)


def _limit(seconds: float) -> None:
    """Raise in the main thread when the time is over, and end the process soon after that at any rate."""

    def ring(_number: int, _frame: FrameType | None) -> NoReturn:
        raise JobError(overdue(seconds))

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + _LAST_RESORT, exit=True)


def _own_output() -> TextIO:
    """Keep standard output for events: what libraries print there goes to the error output from now on."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return events


def _reporter(output: TextIO) -> Callable[[Mapping[str, object]], None]:
    def report(event: Mapping[str, object]) -> None:
        output.write(json.dumps(event, default=float) + "\n")

    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
