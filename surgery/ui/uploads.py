"""Files from the browser: kept on disk under their own name until the import job has read them.

What is kept is named in the URL (`?data=3f2a…/cats.zip`), so that a reload does not lose it.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from pathlib import Path
from typing import BinaryIO

import streamlit as st

from surgery.ui.messages import _
from surgery.workspace import Workspace, queue
from surgery.workspace.files import full_disk_refused

EXPIRED = 24 * 3600.0  # seconds after which an upload that no import has read is removed
_EMPTY = 60.0  # seconds; a folder made this very moment is about to get its file
_TOKEN = re.compile(r"[0-9a-f]{12}")


def keep(ws: Workspace, name: str, content: BinaryIO) -> Path:
    """Write an uploaded file to the workspace's uploads and return where it is: `…/token/name`.

    Raises:
        DiskFullError: nothing is left behind.
    """
    expire(ws)
    token, name = secrets.token_hex(6), _clean(name)
    target = ws.uploads / token / name
    target.parent.mkdir()
    try:
        with full_disk_refused(f"the upload {name!r}"), target.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
    except BaseException:
        shutil.rmtree(target.parent)
        raise
    return target


def expire(ws: Workspace) -> None:
    """Remove uploads that nobody has imported for a day, and the folders of those that were imported.

    What a job is still to read stays, however long the queue is.
    """
    needed = {str(job.task.get("path", "")) for job in queue.listing(ws.store, None) if job.active}
    for folder in ws.uploads.iterdir():  # an import removes its file, not the folder around it
        files = list(folder.glob("*"))
        young = EXPIRED if files else _EMPTY
        if all(str(file) not in needed and _age(file) > young for file in files or [folder]):
            shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    """Seconds since the last write; 0.0 for what another process has just removed."""
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def named(path: Path) -> str:
    """How the URL names an upload: `token/name`."""
    return f"{path.parent.name}/{path.name}"


def _clean(name: str) -> str:
    """The file's own name without folders and unprintable characters, at most 120 long; its ending survives."""
    last = Path(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[-120:].strip(". ") or "file"


def find(ws: Workspace, kept: str) -> Path | None:
    """Return the upload that the URL names so, or None when it is gone; what comes from a URL leads nowhere else."""
    token, _slash, name = kept.partition("/")
    path = ws.uploads / token / name
    safe = _TOKEN.fullmatch(token) and Path(name).name == name and name not in ("", ".", "..")
    return path if safe and path.is_file() and not path.is_symlink() else None


def waits(ws: Workspace, path: Path) -> bool:
    """Say whether this is an upload that no import has read yet; a file of the user's own never is."""
    return path.is_relative_to(ws.uploads) and path.is_file()


def discard(ws: Workspace, path: Path) -> None:
    """Remove an upload; nothing but uploads."""
    if waits(ws, path):
        shutil.rmtree(path.parent)


def uploader(label: str, hint: str, command: str, *, key: str) -> BinaryIO | None:
    """Ask for one file; say what is taken, how large it may be, and how larger ones come in."""
    limit = st.get_option("server.maxUploadSize")
    given = st.file_uploader(label, key=key, help=_("What it is, is told by its content, not by its ending."))
    st.caption(hint + " " + _("Up to {limit} MB here; for more: `{command}`").format(limit=limit, command=command))
    return given
