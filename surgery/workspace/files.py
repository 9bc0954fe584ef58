"""Folders that appear all at once: written aside, forced to disk, renamed into place.

A staging folder carries the identity of the process that writes it in its name, so what a killed process left
behind can be told from what a living one is still writing.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError

from surgery.errors import DiskFullError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_WORDS = ("no space left", "storagefull", "os error 28", "os error 27", "os error 122", "disk is full")
_CLOCK = 2.0  # seconds by which two readings of a process's start may differ (the clock may be set in between)


@contextmanager
def full_disk_refused(what: str) -> Iterator[None]:
    """Turn every way in which a full disk shows itself into one error.

    Raises:
        DiskFullError: naming `what` could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError, OperationalError) as error:
        if not _is_full(error):
            raise
        raise DiskFullError(
            f"The disk is full: {what} could not be written. Nothing was changed.",
            "Free some space (empty the trash, delete versions) and try again.",
        ) from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(words in str(error).lower() for words in _FULL_WORDS)


@contextmanager
def staging(home: Path, id: str) -> Iterator[Path]:
    """A fresh folder to write into; it is removed at the end unless it was renamed away."""
    me = psutil.Process()
    folder = home / "staging" / f"{id}.{me.pid}.{me.create_time():.0f}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(folder: Path) -> bool:
    """Whether the process that staged this folder is gone."""
    owner = re.fullmatch(r"[0-9a-f]+\.(\d+)\.(\d+)", folder.name)
    return owner is None or not alive(int(owner[1]), float(owner[2]))


def alive(pid: int, created: float) -> bool:
    """Whether the process with this id and start time (seconds since 1970) still runs; a zombie does not.

    While threads of a killed process are still ending, it looks like a zombie already but holds its memory.
    """
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return abs(process.create_time() - created) < _CLOCK and not ended
    except psutil.NoSuchProcess:
        return False


def force_to_disk(folder: Path) -> None:
    """fsync every file below `folder` and every folder."""
    for path in [*folder.rglob("*"), folder]:
        _fsync(path)


def publish(staged: Path, target: Path) -> None:
    """Rename a folder that is already on disk into place and make the rename itself durable."""
    staged.rename(target)
    _fsync(target.parent)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file all at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        _fsync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def size(folder: Path) -> int:
    """Bytes of all files below `folder`; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
