"""Folders that appear all at once: written aside, forced to disk, renamed into place.

A staging folder carries the machine in its name and is locked by whoever writes it, so what a killed process left
behind can be told from what a living one, here or elsewhere, is still writing.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError

from surgery.errors import DiskFullError, WorkspaceError
from surgery.workspace import liveness

_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_WORDS = ("no space left", "storagefull", "os error 28", "os error 27", "os error 122", "disk is full")
_STAGED = re.compile(r"([0-9a-f]+)\.([0-9a-f]+\.[0-9a-f]+)")
_LOCK = ".lock"


@contextmanager
def full_disk_refused(what: str) -> Iterator[None]:
    """Turn every way in which a full disk shows itself into one error; and what may not be written, into words.

    Raises:
        DiskFullError: naming `what` could not be written. WorkspaceError: the disk is read-only, or a right is missing.
    """
    try:
        yield
    except (OSError, SafetensorError, OperationalError) as error:
        if isinstance(error, OSError) and error.errno in _FORBIDDEN:
            raise WorkspaceError(
                f"Nothing was changed: {what} could not be written: {error.strerror}.",
                "Give yourself the right to write to the workspace's folder, or make its disk writable.",
            ) from error
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
    """A fresh folder to write into; it is removed at the end unless it was renamed away.

    The folder around it stays to the end of the block: where it outlives its writer, `id` may have been renamed into
    place without having been recorded.
    """
    around = home / "staging" / f"{id}.{liveness.here()}"
    lock = around.with_name(f"{around.name}{_LOCK}")
    with liveness.holding(lock):  # before the folder is there: a folder without a holder is surely abandoned
        folder = around / "files"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(around, ignore_errors=True)
            lock.unlink(missing_ok=True)


def abandoned(home: Path) -> list[tuple[str, Path]]:
    """The staging folders of processes of this machine that are gone: (id, folder)."""
    found = []
    for folder in (home / "staging").iterdir():
        name = _STAGED.fullmatch(folder.name)
        if name and liveness.ours(name[2]) and liveness.held(folder.with_name(f"{folder.name}{_LOCK}")) is False:
            found.append((name[1], folder))
    return found


def forget_locks(home: Path) -> None:
    """Remove locks of this machine's dead that had no time to make their folder.

    One that is taken at this very moment is removed at worst, and its folder is then taken for somebody else's.
    """
    for lock in (home / "staging").glob(f"*{_LOCK}"):
        name = _STAGED.fullmatch(lock.name.removesuffix(_LOCK))
        alone = not lock.with_name(lock.name.removesuffix(_LOCK)).exists()
        if name and liveness.ours(name[2]) and alone and liveness.held(lock) is False:
            lock.unlink(missing_ok=True)


def remove_staging(folder: Path) -> None:
    """Remove a staging folder with its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f"{folder.name}{_LOCK}").unlink(missing_ok=True)


def force_to_disk(folder: Path) -> None:
    """fsync every file below `folder` and every folder."""
    for path in [*folder.rglob("*"), folder]:
        _fsync(path)


def publish(staged: Path, target: Path) -> None:
    """Rename a folder that is already on disk into place and make the rename itself durable."""
    _fsync(staged)
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
