"""Temporary folders that carry the name of their owner, so that what a killed process left behind can be removed.

A folder is removed by somebody else only when it is surely ours to remove: of the same user and host, marked by the
product, and its process gone.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from surgery.children import Identity, me

SHORT, LONG = "sg-", "surgery-"  # what the names begin with; the short one is for sockets, whose paths are limited
MARK = "owner.json"


@contextmanager
def folder(purpose: str) -> Iterator[Path]:
    """A fresh temporary folder of this process, removed at the end."""
    made = create(f"{LONG}{purpose}-", tempfile.gettempdir())
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def create(prefix: str, where: str) -> Path:
    """A fresh folder that only this user can enter, marked as this process's."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    (made / MARK).write_text(json.dumps({"host": host(), **asdict(me())}), encoding="utf-8")
    return made


def sweep(*where: str) -> int:
    """Remove the folders of processes that are gone, below the system's temporary folder and `where`; how many."""
    places = {Path(tempfile.gettempdir()), *map(Path, where)}
    left = [one for place in places for prefix in (SHORT, LONG) for one in place.glob(f"{prefix}*") if abandoned(one)]
    for one in left:
        shutil.rmtree(one, ignore_errors=True)
    return len(left)


def abandoned(found: Path) -> bool:
    """Whether a folder was made by this product for this user on this host, by a process that is gone."""
    try:
        about = found.lstat()
        if not stat.S_ISDIR(about.st_mode) or (hasattr(os, "getuid") and about.st_uid != os.getuid()):
            return False
        mark = json.loads((found / MARK).read_text(encoding="utf-8"))
        owner = Identity(int(mark["pid"]), float(mark["born"]))
        return bool(mark["host"] == host()) and not owner.living
    except (OSError, ValueError, KeyError, TypeError):
        return False  # not surely ours


def host() -> str:
    """What tells this host, and a container's own numbering of processes, from others."""
    try:
        numbering = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbering = ""
    return f"{platform.node()} {numbering}".strip()
