"""How much memory a worker or probe may take, and the watch that ends it before the machine suffers.

The watch compares what belongs to this process alone (resident memory without what it shares with files and others)
with a limit. Limits of the system are not used: one on the address space stops CUDA, and one on data counts model files
that are only mapped. `SURGERY_MEMORY` (for instance 8GB) sets the limit of every process.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import psutil

from surgery import machine
from surgery.errors import DeviceMemoryError, JobError

VARIABLE = "SURGERY_MEMORY"
SHARES = {"long": 0.5, "short": 0.3, "import": 0.3, "probe": 0.2}  # of the memory of the machine or container
LEAST = 2 * 10**9  # bytes: below this hardly any work with torch is possible
EVERY = 0.2  # seconds between two looks
PATIENCE = 5.0  # seconds that a process has to give memory back after it was told
FAR = 1.1  # times the limit: no patience beyond
OVER = "Memory limit exceeded:"  # how the line begins that a process leaves in its log when it ends itself


def limit_for(use: str) -> int:
    """The bytes that a process for "long", "short" or "import" jobs, or a "probe", may take.

    Raises:
        JobError: SURGERY_MEMORY is no size.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        return machine.size(given, VARIABLE, JobError)
    return max(min(LEAST, machine.memory()), int(SHARES[use] * machine.memory()))


def own() -> int:
    """The bytes that this process alone holds."""
    try:
        words = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:  # not Linux
        return int(psutil.Process().memory_info().rss)
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")


def over(limit: int) -> DeviceMemoryError:
    """The error of a process that took more than `limit` bytes."""
    return DeviceMemoryError(
        f"The job needed more than its memory limit of {limit / 1e9:.1f} GB and was stopped. Nothing was changed.",
        f"Use less data, a smaller batch or a smaller model, or allow more with {VARIABLE} (for instance {VARIABLE}="
        f"{2 * limit / 1e9:.0f}GB) where the machine has it.",
    )


@dataclass
class Watch:
    """A thread that looks at this process's memory.

    told: called once when the limit is passed, to end the work in order. end: called when that did not help within
    `PATIENCE`, or the process is far beyond; it does not come back.
    """

    limit: int
    told: Callable[[], None]
    end: Callable[[], None]
    measure: Callable[[], int] = own
    stopped: Event = field(default_factory=Event)

    def start(self) -> Watch:
        """Begin to look."""
        Thread(target=self._look, daemon=True, name="memory").start()
        return self

    def stop(self) -> None:
        """Look no more."""
        self.stopped.set()

    def _look(self) -> None:
        passed: float | None = None
        while not self.stopped.wait(EVERY):
            taken = self.measure()
            if taken <= self.limit:
                passed = None
            elif passed is None:
                passed = time.monotonic()
                self.told()
            if taken > FAR * self.limit or (passed is not None and time.monotonic() - passed > PATIENCE):
                self.end()
                return


def end_at_once(limit: int) -> None:
    """Leave the reason in the log and end this process, whatever it is doing."""
    sys.stderr.write(f"\n{OVER} {limit}\n")
    sys.stderr.flush()
    os._exit(1)


def limit_told(lines: list[str]) -> int | None:
    """The limit that a process names in its log as what ended it; None when it ended otherwise."""
    for line in reversed(lines):
        if found := re.fullmatch(rf"{re.escape(OVER)} (\d+)", line.strip()):
            return int(found[1])
    return None
