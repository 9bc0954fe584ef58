"""What every process that the product starts is given, and who it is: its id and its start."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_LINUX = platform.system() == "Linux"
_NEAR = 0.5 if _LINUX else 2.0  # seconds by which two readings of a start may differ


def environment(**more: str) -> dict[str, str]:
    """This process's environment for a child, with `more`: torch then loads no pickle but plain weights, anywhere."""
    return {**os.environ, "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", **more}


def born(pid: int) -> float:
    """When a process was started: seconds since the machine was, which no setting of the clock changes (Linux);
    seconds since 1970 elsewhere.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    if not _LINUX:
        return float(psutil.Process(pid).create_time())
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Identity:
    """A process of this machine. born: its start, what the function `born` says."""

    pid: int
    born: float

    @property
    def living(self) -> bool:
        """Whether it still runs, and the number does not belong to another process by now; a zombie does not.

        While threads of a killed process are still ending, it looks like a zombie already but holds its memory.
        """
        try:
            same = abs(born(self.pid) - self.born) < _NEAR
            process = psutil.Process(self.pid)
            return same and not (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


@cache
def _started(pid: int) -> float:
    return born(pid)


def me() -> Identity:
    """This process."""
    return Identity(os.getpid(), _started(os.getpid()))
