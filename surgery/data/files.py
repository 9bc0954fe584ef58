"""The files of a folder or zip, by relative name, one at a time in memory. Nothing is ever unpacked to disk.

A zip comes from anybody: names that lead outside, links, encryption, nested archives and bombs are refused before the
first file is read, and no file is read beyond the size its entry declares.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from surgery.errors import DataError

MAX_ENTRIES = 1_000_000
MAX_BYTES = 500 * 10**9  # unpacked, in all
MAX_RATIO = 200  # unpacked ÷ packed, in all; photographs reach 2, simple drawings 50
HARMLESS_BYTES = 100 * 10**6  # an archive that unpacks to less may have any ratio
MAX_FILE = 256 * 10**6  # bytes of one file
JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


class Files:
    """Names and contents of the files in a folder. Hidden files and what systems leave behind are not listed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: Sequence[str] = self._list()

    def __enter__(self) -> Files:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """A folder needs no closing."""

    def read(self, name: str) -> bytes:
        """The contents of one file.

        Raises:
            DataError: it is unreadable or larger than MAX_FILE.
        """
        try:
            self._check_size(name, (self.path / name).stat().st_size)
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DataError(f"It cannot be read: {error.strerror}.", "Check the file, or remove it.") from error

    def _list(self) -> list[str]:
        found: list[str] = []
        for folder, inner, files in os.walk(self.path):
            inner[:] = sorted(name for name in inner if not _is_junk(name))
            base = Path(folder).relative_to(self.path).as_posix()
            found += [name if base == "." else f"{base}/{name}" for name in files if not _is_junk(name)]
        return found

    @staticmethod
    def _check_size(name: str, size: int) -> None:
        if size > MAX_FILE:
            raise DataError(
                f"It has {size / 1e6:,.0f} MB; a file may have {MAX_FILE / 1e6:,.0f} MB.", "Save it smaller."
            )


class ZipFiles(Files):
    """The same for a zip."""

    def __init__(self, path: Path) -> None:
        self._zip = open_zip(path)
        self._entries = {_name(entry): entry for entry in self._zip.infolist() if not entry.is_dir()}
        super().__init__(path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """The contents of one file.

        Raises:
            DataError: it is damaged, packed in an unusual way or larger than MAX_FILE.
        """
        self._check_size(name, self._entries[name].file_size)
        try:
            return self._zip.read(self._entries[name])
        except BROKEN as error:
            raise DataError(f"It is damaged inside the zip: {error}.", "Make the zip again.") from error

    def _list(self) -> list[str]:
        return [name for name in self._entries if not any(_is_junk(part) for part in name.split("/"))]


def open_files(path: Path) -> Files:
    """The files of a folder or zip.

    Raises:
        DataError: the zip is broken or unsafe.
    """
    return Files(path) if path.is_dir() else ZipFiles(path)


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip whose entries are all safe to read.

    Raises:
        DataError: it is broken, or an entry is unsafe.
    """
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN as error:
        raise DataError(f"{path.name!r} is not a complete zip file: {error}.", "Make or upload it again.") from error
    try:
        _check_size(archive, path)
        for entry in archive.infolist():
            _check_entry(entry, path)
    except DataError:
        archive.close()
        raise
    return archive


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise DataError(
            f"{path.name!r} has {len(entries):,} entries; at most {MAX_ENTRIES:,} are read.",
            "Unpack it and import the folder with the command line.",
        )
    total = sum(entry.file_size for entry in entries)
    ratio = total / max(1, path.stat().st_size)
    if total > MAX_BYTES or (total > HARMLESS_BYTES and ratio > MAX_RATIO):
        raise DataError(
            f"{path.name!r} would unpack to {total / 1e9:,.1f} GB, {ratio:,.0f} times its size, like a zip bomb.",
            f"At most {MAX_BYTES / 1e9:,.0f} GB and {MAX_RATIO} times are read. Import the unpacked folder instead.",
        )


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    name = _name(entry)
    where = f"The entry {name[:200]!r} of {path.name!r}"
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        raise DataError(f"{where} leads outside the archive.", "Make the zip again from inside its folder.")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise DataError(f"{where} is a link.", "Put the file itself into the zip.")
    if entry.flag_bits & 0x1:
        raise DataError(f"{where} is encrypted.", "Make the zip again without a password.")
    if name.lower().endswith(ARCHIVES):
        raise DataError(f"{where} is an archive inside the archive.", "Unpack it, and zip its files themselves.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{where} is packed with an unusual method.", "Make the zip again with the usual one (deflate)."
        )


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.replace("\\", "/")


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in JUNK
