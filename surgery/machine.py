"""What this machine has, or the container that this process runs in; and how operators write sizes."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from surgery.errors import SurgeryError

_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int:
    """The memory of this machine, or of the container, in bytes."""
    found = psutil.virtual_memory().total
    for name in _GROUPS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # "max": no limit
            found = min(found, int(text))
    return found


def size(text: str, variable: str, error: type[SurgeryError]) -> int:
    """ "8GB", "512 MB", "2GiB" or a plain number of bytes, in bytes; variable: what was set to it, for the message.

    Raises:
        SurgeryError: as `error`: it is none of these, or less than 100 MB.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d+)?)\s*([KMGT]?)(I?)B?", text.strip().upper())
    bytes = 0.0
    if found is not None:
        power = "_KMGT".index(found[2] or "_")
        bytes = float(found[1]) * (1024 if found[3] else 1000) ** power
    if not 10**8 <= bytes < 2**60:
        raise error(f"{variable} is {text[:40]!r}, which is no size.", "Write for instance 8GB; the least is 100MB.")
    return int(bytes)
