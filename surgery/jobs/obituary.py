"""Why a job failed, in words for its owner: from the exception it raised, or from what a dead worker left behind.

A worker that meets its end by an exception records it itself, and a crash inside native code leaves a line of
`faulthandler`; so one that is gone without a word was killed.
"""

from __future__ import annotations

import re
from pathlib import Path

from surgery.errors import DeviceMemoryError, SurgeryError
from surgery.jobs.reports import error_lines

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "unable to allocate")


def reason_of(error: Exception, device: str) -> str:
    """What to tell about an exception that ended a job on `device`."""
    if isinstance(error, SurgeryError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY):
        return str(out_of_memory(device))
    return f"{type(error).__name__}: {error} This should not happen; the log has the details."


def out_of_memory(device: str) -> DeviceMemoryError:
    """The error for a device, or this machine, that has no memory left."""
    return DeviceMemoryError(
        f"The device {device!r} ran out of memory.",
        "Use a smaller batch, end other programs on it, or choose another device (cpu has the most memory).",
    )


def overdue(limit: float) -> str:
    """What to tell about a job that took too long; `limit` in seconds."""
    return f"It ran longer than its time limit of {limit:,.0f} s. Try again with a higher limit or less data."


def cause_of_death(folder: Path, limit: float) -> str:
    """What to tell about a worker that is gone without having recorded an end."""
    lines = error_lines(folder)
    for line in reversed(lines):
        if line.startswith("Timeout ("):
            return overdue(limit)
        if crash := re.match(r"Fatal Python error: (.+)", line):
            return f"The worker crashed in native code ({crash[1]}). Nothing was changed; the log has the details."
    if any(line.startswith("Traceback ") for line in lines):
        return f"The worker ended with an error: {lines[-1]} Nothing was changed; the log has the details."
    return (
        "The worker was killed (signal 9). Nothing was changed. If nobody ended it, the machine ran out of memory: "
        "use a smaller batch or end other programs, then try again."
    )
