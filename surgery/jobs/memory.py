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

from surgery.errors import DeviceMemoryError, JobError

VARIABLE = "SURGERY_MEMORY"
SHARES = {"long": 0.5, "short": 0.3, "probe": 0.2}  # of the memory of the machine or container
LEAST = 2 * 10**9  # bytes: below this hardly any work with torch is possible
EVERY = 0.2  # seconds between two looks
PATIENCE = 5.0  # seconds that a process has to give memory back after it was told
FAR = 1.1  # times the limit: no patience beyond
OVER = "Memory limit exceeded:"  # how the line begins that a process leaves in its log when it ends itself
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def limit_for(use: str) -> int:
    """The bytes that a process for "long" or "short" jobs, or a "probe", may take.

    Raises:
        JobError: SURGERY_MEMORY is no size.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        return parsed(given)
    return max(min(LEAST, total()), int(SHARES[use] * total()))


def parsed(text: str) -> int:
    """ "8GB", "512 MB", "2GiB" or a plain number of bytes, in bytes.

    Raises:
        JobError: it is none of these, or less than 100 MB.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d+)?)\s*([KMGT]?)(I?)B?", text.strip().upper())
    size = 0.0
    if found is not None:
        power = "_KMGT".index(found[2] or "_")
        size = float(found[1]) * (1024 if found[3] else 1000) ** power
    if not 10**8 <= size < 2**60:
        raise JobError(f"{VARIABLE} is {text[:40]!r}, which is no size.", "Write for instance 8GB; the least is 100MB.")
    return int(size)


def total() -> int:
    """The memory of this machine, or of the container that this process is in, in bytes."""
    found = psutil.virtual_memory().total
    for name in _CGROUPS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # "max": no limit
            found = min(found, int(text))
    return found


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
