"""Checksums over every file of a version, dataset or fleet, so that a changed byte anywhere is noticed and named.

`checksums.json` in the folder lists the SHA-256 of each file; the SHA-256 of that list is the folder's checksum, which
the catalogue records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from surgery.workspace.files import write_file

LIST = "checksums.json"


def of_folder(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a folder, by its name in there."""
    return {name: of_file(folder / name) for name in _names(folder)}


def write(folder: Path, files: Mapping[str, str]) -> str:
    """List `files`, what `of_folder` said, in the folder and return the folder's checksum, "sha256:…"."""
    content = json.dumps({"files": dict(files)}, indent=1).encode()
    write_file(folder / LIST, content)
    return _checksum(content)


def of_list(folder: Path) -> str:
    """The checksum of a folder by its own list. Raises OSError."""
    return _checksum((folder / LIST).read_bytes())


def damage(folder: Path, checksum: str | None, only: Sequence[str] = ()) -> list[str]:
    """What differs from when the checksum was made: "NAME changed", "NAME is missing", "NAME was added".

    checksum: as recorded; None when only the folder's own list is to be trusted. only: the files to look at, for a
    quick look; all by default.
    """
    if not folder.is_dir():
        return ["the folder is missing"]
    try:
        content = (folder / LIST).read_bytes()
        files: dict[str, str] = json.loads(content)["files"]
        names = list(only) or sorted(files.keys() | set(_names(folder)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"{LIST} is missing or damaged"]
    if checksum is not None and _checksum(content) != checksum:
        return [f"{LIST} changed"]
    found = []
    for name in names:
        if name not in files:
            found += [f"{name} was added"] if (folder / name).exists() else []
        elif not (folder / name).is_file():
            found.append(f"{name} is missing")
        elif _of_readable(folder / name) != files[name]:
            found.append(f"{name} changed")
    return found


def of_file(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_readable(path: Path) -> str:
    try:
        return of_file(path)
    except OSError as error:  # a bad sector is damage too
        return f"unreadable: {error.strerror}"


def _names(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != LIST)


def _checksum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
