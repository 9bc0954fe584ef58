"""Which machine this is, and whether a process still lives: told by locks that end with their process.

A file is locked by whoever works, or inherited locked by the worker that it starts; the kernel releases it however the
process ends. That needs neither process ids, which differ between containers, nor the clock, which may be set. Only
this machine's locks are judged: what another one holds is not ours to call dead.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

HOST = "SURGERY_HOST"  # names this machine: keeps two apart that look alike, and joins what looks different
_MACHINE = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@cache
def here() -> str:
    """ "HOST.BOOT": this machine, and its running kernel, which containers of one machine share."""
    if given := os.environ.get(HOST, "").strip():
        return f"{_short(given)}.{_short(given)}"
    machine = next((_text(Path(name)) for name in _MACHINE if _text(Path(name))), "")
    host = _short(f"{machine}|{platform.node()}|{uuid.getnode()}")
    return f"{host}.{_short(_text(_BOOT)) if _text(_BOOT) else host}"


def ours(where: str) -> bool:
    """Whether `where`, another process's `here()`, is this machine; "" (not recorded) counts as this one."""
    return not where or bool(set(where.split(".")) & set(here().split(".")))


def kernel(where: str) -> str:
    """The part of `here()` that all who share this machine's devices have in common."""
    return where.rpartition(".")[2]


@contextmanager
def holding(path: Path) -> Iterator[int | None]:
    """Lock `path` until the end of the block, or of the last process that inherited the descriptor.

    Yields the descriptor; None where the system or the file system has no such locks.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor if _lock(descriptor) else None
    finally:
        os.close(descriptor)  # not unlocked: a worker that inherited it goes on holding it


def held(path: Path) -> bool | None:
    """Whether a living process of this machine holds `path`; None when that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return False if _lock(descriptor) else None
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock without waiting; False where there are no such locks.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            raise
        except OSError:
            logging.getLogger(__name__).debug("the file system has no locks", exc_info=True)
    return False


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
