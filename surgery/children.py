"""What every process that the product starts is given, and who it is: its id and its start time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import psutil

CLOCK = 2.0  # seconds by which two readings of a start time may differ (the clock may be set in between)


def environment(**more: str) -> dict[str, str]:
    """This process's environment for a child, with `more`: torch then loads no pickle but plain weights, anywhere."""
    return {**os.environ, "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", **more}


@dataclass(frozen=True)
class Identity:
    """A process of this host. created: its start, in seconds since 1970."""

    pid: int
    created: float

    @property
    def living(self) -> bool:
        """Whether it still runs; the number alone may belong to another process by now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CLOCK
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


@cache
def _started(pid: int) -> float:
    return psutil.Process(pid).create_time()


def me() -> Identity:
    """This process."""
    return Identity(os.getpid(), _started(os.getpid()))
