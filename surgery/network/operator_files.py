"""Python files with constructors that an operator named on this machine, kept by content: only their code ever runs.

`surgery --architectures FILE` registers a file: a copy goes into a folder of this user's settings, under the SHA-256 of
its bytes. Jobs and versions name a file by that checksum, so that they get the same code whoever runs them, and a
workspace that comes from elsewhere can name code but cannot bring any. Importing this module is cheap.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import platformdirs

from surgery.errors import ModelError

VARIABLE = "SURGERY_ARCHITECTURES"  # the file for this process and its children
SETTINGS = "SURGERY_CONFIG"
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def folder() -> Path:
    """Where the copies are: a folder of this user, outside every workspace."""
    settings = os.environ.get(SETTINGS) or platformdirs.user_config_dir("model-surgery", appauthor=False)
    return Path(settings) / "architectures"


def checksum(content: bytes) -> str:
    """The SHA-256 of a file's bytes, in lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()


def register(path: Path) -> Path:
    """Keep a copy of the operator's file, which may run here from now on; return the copy.

    Raises:
        ModelError: there is no such file, or the copy cannot be written.
    """
    if not path.is_file():
        raise ModelError(f"There is no Python file {path}.", "Start with --architectures FILE.py.")
    content = path.read_bytes()
    known = registered(checksum(content))
    return known if known is not None else _copied(path, content)


def _copied(path: Path, content: bytes) -> Path:
    own = folder() / checksum(content)
    copy, written = own / path.name, own / f".{path.name}.{os.getpid()}"
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        written.write_bytes(content)
        written.replace(copy)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be registered: {copy} cannot be written: {error.strerror}.",
            f"Set {SETTINGS} to a folder that you may write to.",
        ) from error
    return copy


def registered(source: str) -> Path | None:
    """The registered file of this checksum, if its bytes are still those; None where there is none."""
    if not _CHECKSUM.fullmatch(source):
        return None
    for path in sorted((folder() / source).glob("*.py")):
        if checksum(path.read_bytes()) == source:
            return path
    return None


def current() -> str:
    """The checksum of the file that this process was started with, registered; "" without one.

    Raises:
        ModelError: it is missing, or cannot be registered.
    """
    named = os.environ.get(VARIABLE)
    return register(Path(named)).parent.name if named else ""


def adopt(source: str) -> None:
    """Let this process and its children know the constructors of the file `source` alone; "" = of none.

    Raises:
        ModelError: nobody has registered it here.
    """
    os.environ.pop(VARIABLE, None)
    if source:
        path = registered(source)
        if path is None:
            raise unregistered("The job", source)
        os.environ[VARIABLE] = str(path)


def unregistered(what: str, source: str, copy: Path | None = None) -> ModelError:
    """The refusal of code that nobody has registered; what: it needs it; copy: where the file can be read."""
    where = f"Read {copy}. If you trust it, start" if copy else "Start"
    return ModelError(
        f"{what} needs a Python file with constructors (SHA-256 {source[:16]}…) that was never registered here.",
        f"{where} once with: surgery --architectures {copy or 'FILE'}",
    )
