"""Why a job failed, in words for its owner: from the exception it raised, or from what a dead worker left behind.

`explained` is the one place where errors of the system, of the catalogue and of libraries become sentences; workers and
probes both use it. A worker that meets its end by an exception records it itself, and a crash inside native code leaves
a line of `faulthandler`; so one that is gone without a word was killed.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from sqlalchemy.exc import DatabaseError

from surgery.errors import DeviceMemoryError, DiskFullError, JobError, SurgeryError, WorkspaceError
from surgery.jobs import memory
from surgery.jobs.reports import error_lines

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "unable to allocate", "memoryerror")
_FULL = ("no space left", "disk is full", "disk quota exceeded", "storagefull", "os error 28", "os error 122")
_SPACE = "Free some space (empty the trash, delete versions) and try again."
_RIGHTS = "Give the user that runs Model Surgery the right to use it, then try again."
_AGAIN = "Try again. If it happens again, report it together with the job's log, which has the details."

# What an error number of the system means: the end of the sentence that begins with the file, and what to do.
_SYSTEM: Mapping[int, tuple[str, str]] = {
    errno.EFBIG: ("would become larger than files may be here", "Raise the limit (ulimit -f), then try again."),
    errno.EROFS: ("lies on a disk that can only be read", "Make the disk writable, or move the workspace."),
    errno.EACCES: ("may not be used by this user", _RIGHTS),
    errno.EPERM: ("may not be used by this user", _RIGHTS),
    errno.ENOENT: ("is missing", "Restore it, or begin again with what is there."),
    errno.EMFILE: ("could not be opened: too many files are open", "Raise the limit (ulimit -n), or end other jobs."),
    errno.ENFILE: ("could not be opened: the system has too many files open", "End other programs, then try again."),
    errno.EIO: ("could not be read or written: the disk reports an error", "Check the disk and the system's log."),
    errno.ESTALE: ("is on a network disk that went away", "Mount it again, then try again."),
    errno.EISDIR: ("is a folder, not a file", "Name a file."),
    errno.ENAMETOOLONG: ("has too long a name", "Choose a shorter name or folder."),
}  # fmt: skip
# What the words of the catalogue's driver mean.
_CATALOGUE: tuple[tuple[str, str, str], ...] = (
    ("locked", "has been in use by another process for too long", "Try again when other jobs have ended."),
    ("busy", "has been in use by another process for too long", "Try again when other jobs have ended."),
    ("readonly", "can only be read", _RIGHTS),
    ("read-only", "can only be read", _RIGHTS),
    ("malformed", "is damaged", "Restore catalogue.db from a backup."),
    ("not a database", "is damaged", "Restore catalogue.db from a backup."),
    ("no such table", "is not one of this version of Model Surgery", "Restore catalogue.db from a backup."),
    ("unable to open", "cannot be opened", _RIGHTS),
    ("i/o error", "could not be read or written: the disk reports an error", "Check the disk and its free space."),
)


def reason_of(error: Exception, device: str, doing: str = "") -> str:
    """What to tell about an exception that ended a job on `device`. doing: its stage and inputs."""
    return str(explained(error, device, doing or "working"))


def explained(error: Exception, device: str, doing: str) -> SurgeryError:
    """The error as one in words: what failed (while `doing`, the stage and its inputs), why, and what to do."""
    if isinstance(error, SurgeryError):
        return error
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _MEMORY):
        return out_of_memory(device)
    if isinstance(error, DatabaseError):
        return _of_catalogue(text)
    if any(words in text for words in _FULL) or (isinstance(error, OSError) and error.errno == errno.EDQUOT):
        return DiskFullError(f"The disk became full while {doing}. Nothing was changed.", _SPACE)
    if isinstance(error, OSError):
        return _of_system(error, doing)
    if found := re.search(r"os error (\d+)", text):  # libraries written in Rust tell the system's number in words
        return _of_system(OSError(int(found[1]), os.strerror(int(found[1]))), doing)
    if isinstance(error, SafetensorError):
        return JobError(
            f"A file of weights is damaged: {error}. It was met while {doing}.", "Restore it from a backup."
        )
    return JobError(f"A fault in Model Surgery stopped the work while {doing}. Nothing was changed.", _AGAIN)


def _of_system(error: OSError, doing: str) -> SurgeryError:
    what = repr(str(error.filename)) if error.filename else "A file"
    if (error.errno or 0) in _SYSTEM:
        why, fix = _SYSTEM[error.errno or 0]
        return WorkspaceError(f"{what} {why}. It was needed while {doing}. Nothing was changed.", fix)
    why = error.strerror or "no reason was given"
    return WorkspaceError(f"{what} could not be used while {doing}: {why}. Nothing was changed.", _AGAIN)


def _of_catalogue(text: str) -> SurgeryError:
    if any(words in text for words in _FULL):
        return DiskFullError("The disk is full: the catalogue could not be written. Nothing was changed.", _SPACE)
    for words, why, fix in _CATALOGUE:
        if words in text:
            return WorkspaceError(f"The catalogue of the workspace {why}. Nothing was changed.", fix)
    return WorkspaceError("The catalogue of the workspace could not be used. Nothing was changed.", _AGAIN)


def told_of(stage: str, task: Mapping[str, Any]) -> str:
    """`tuning (version 3f…, dataset 0a…)`: a stage and what the task names."""
    plan = task.get("plan")
    given = {**task, **plan} if isinstance(plan, Mapping) else task
    names = {
        "operation": given.get("operation"),
        "version": given.get("version") or given.get("versions") or given.get("inputs"),
        "dataset": given.get("dataset") or given.get("datasets"),
        "fleet": given.get("fleet"),
        "file": given.get("path"),
        "part": given.get("part"),
    }
    said = [f"{name} {_listed(value)}" for name, value in names.items() if value not in (None, "", [], ())]
    return f"{stage or 'starting'} ({', '.join(said)})" if said else stage or "starting"


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


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
    if (allowed := memory.limit_told(lines)) is not None:
        return str(memory.over(allowed))
    for line in reversed(lines):
        if line.startswith("Timeout ("):
            return overdue(limit)
        if crash := re.match(r"Fatal Python error: (.+)", line):
            return f"The worker crashed in native code ({crash[1]}). Nothing was changed; the log has the details."
    if any(line.startswith("Traceback ") for line in lines):
        return _unrecorded(lines)
    return (
        "The worker was killed (signal 9). Nothing was changed. If nobody ended it, the machine ran out of memory: "
        "use a smaller batch or end other programs, then try again."
    )


def _unrecorded(lines: list[str]) -> str:
    """What to tell about a worker whose log ends with a traceback: it could not write down its end itself."""
    last = next((line for line in reversed(lines) if re.match(r"[\w.]+(: |$)", line)), "").lower()
    if any(words in last for words in _MEMORY):
        return str(out_of_memory("cpu"))
    if "sqlite" in last or "sqlalchemy" in last or "psycopg" in last:
        return str(_of_catalogue(last))
    if any(words in last for words in _FULL):
        return str(DiskFullError("The disk became full. Nothing was changed.", _SPACE))
    return f"A fault in Model Surgery ended the worker before it could say why. Nothing was changed. {_AGAIN}"
