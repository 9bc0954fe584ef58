"""Jobs as detached processes of this machine: launched directly, ended by signals to their process group."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surgery.children import Identity, born, environment
from surgery.jobs.reports import ERRORS, EVENTS
from surgery.workspace import liveness
from surgery.workspace.queue import Worker

GRACE = 0.5  # seconds between asking a worker to stop and ending it
_children: dict[int, subprocess.Popen[bytes]] = {}  # only to reap them: a dead child stays a zombie until then


@dataclass(frozen=True)
class Local:
    """Starts, watches and ends workers. `command` runs one job, whose id is appended."""

    command: Sequence[str] = (sys.executable, "-m", "surgery.jobs.worker")

    def launch(self, home: Path, job_id: str) -> Worker:
        """Start the worker of a job. It inherits a lock from its first moment to its last, however it ends."""
        folder = home / "jobs" / job_id
        folder.mkdir(exist_ok=True)
        lock = folder / f"alive-{secrets.token_hex(4)}.lock"  # a worker started in vain may still hold another
        with (
            (folder / EVENTS).open("ab") as events,
            (folder / ERRORS).open("ab") as errors,
            liveness.holding(lock) as held,
        ):
            child = subprocess.Popen(
                [*self.command, job_id],
                stdin=subprocess.DEVNULL,
                stdout=events,
                stderr=errors,
                start_new_session=True,
                pass_fds=() if held is None else (held,),
                env=environment(SURGERY_HOME=str(home)),
            )
        _children[child.pid] = child
        return Worker(child.pid, born(child.pid), liveness.here(), lock if held is not None else None)

    def alive(self, worker: Worker) -> bool:
        """Whether a worker of this machine still runs."""
        held = None if worker.lock is None else liveness.held(worker.lock)
        living = Identity(worker.pid, worker.born).living if held is None else held
        self.reap()  # after the look: what it saw as a zombie is reaped now
        return living

    def reap(self) -> None:
        """Take note of children that ended; without it they stay in the process table as zombies."""
        for pid, child in list(_children.items()):
            if child.poll() is not None:
                _children.pop(pid, None)  # another thread may have been here

    def stop(self, worker: Worker) -> bool:
        """Ask a worker to stop, end it when it does not; whether it is gone. Takes up to about a second.

        A worker in another container cannot be signalled from here; it ends when it finds its job ended.
        """
        if not self.alive(worker):
            return True
        if not Identity(worker.pid, worker.born).living:  # its number may belong to somebody else here
            return False
        _signal(worker.pid, signal.SIGTERM)
        self._gone(worker, GRACE)
        _signal(worker.pid, signal.SIGKILL)  # also whoever the worker had started itself
        return self._gone(worker, 1.0)

    def _gone(self, worker: Worker, patience: float) -> bool:
        end = time.monotonic() + patience
        while self.alive(worker):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


def _signal(pid: int, order: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:  # every worker leads a group; what does not is no worker
            os.killpg(pid, order)


LOCAL = Local()
