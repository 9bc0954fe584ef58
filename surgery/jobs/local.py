"""Jobs as detached processes of this machine: launched directly, ended by signals to their process group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from surgery.children import environment
from surgery.jobs.reports import ERRORS, EVENTS
from surgery.workspace import files

GRACE = 0.5  # seconds between asking a worker to stop and ending it
_children: dict[int, subprocess.Popen[bytes]] = {}  # only to reap them: a dead child stays a zombie until then


@dataclass(frozen=True)
class Local:
    """Starts, watches and ends workers. `command` runs one job, whose id is appended."""

    command: Sequence[str] = (sys.executable, "-m", "surgery.jobs.worker")

    def launch(self, home: Path, job_id: str) -> tuple[int, float]:
        """Start the worker of a job; its process id and start time (seconds since 1970)."""
        folder = home / "jobs" / job_id
        folder.mkdir(exist_ok=True)
        with (folder / EVENTS).open("ab") as events, (folder / ERRORS).open("ab") as errors:
            child = subprocess.Popen(
                [*self.command, job_id],
                stdin=subprocess.DEVNULL,
                stdout=events,
                stderr=errors,
                start_new_session=True,
                env=environment(SURGERY_HOME=str(home)),
            )
        _children[child.pid] = child
        return child.pid, psutil.Process(child.pid).create_time()

    def alive(self, pid: int, created: float) -> bool:
        """Whether the worker still runs."""
        living = files.alive(pid, created)
        self.reap()  # after the look: what it saw as a zombie is reaped now
        return living

    def reap(self) -> None:
        """Take note of children that ended; without it they stay in the process table as zombies."""
        for pid, child in list(_children.items()):
            if child.poll() is not None:
                _children.pop(pid, None)  # another thread may have been here

    def stop(self, pid: int, created: float) -> bool:
        """Ask a worker to stop, end it when it does not; whether it is gone. Takes up to about a second."""
        if not self.alive(pid, created):  # its number may belong to somebody else by now
            return True
        _signal(pid, signal.SIGTERM)
        self._gone(pid, created, GRACE)
        _signal(pid, signal.SIGKILL)  # also whoever the worker had started itself
        return self._gone(pid, created, 1.0)

    def _gone(self, pid: int, created: float, patience: float) -> bool:
        end = time.monotonic() + patience
        while self.alive(pid, created):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


def _signal(pid: int, order: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, order)


LOCAL = Local()
