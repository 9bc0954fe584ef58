"""The files of a folder or zip, by relative name, one at a time in memory. Nothing is ever unpacked to disk.

A zip comes from anybody: names that lead outside, links, encryption, nested archives and bombs are refused before the
first file is read, and no file is read beyond the size its entry declares.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from surgery.data.findings import Findings
from surgery.errors import DataError

MAX_ENTRIES = 1_000_000
MAX_BYTES = 500 * 10**9  # unpacked, in all
MAX_RATIO = 200  # unpacked ÷ packed, in all; photographs reach 2, simple drawings 50
HARMLESS_BYTES = 100 * 10**6  # an archive that unpacks to less may have any ratio
MAX_FILE = 256 * 10**6  # bytes of one file
HEAD = 262_144  # bytes in which the head of an image lies
MAX_DIRECTORY = 256 * 10**6  # bytes of the list of entries at the end of a zip
TAIL = 66_000  # bytes at the end of a zip, in which the place of that list is said
COMPARED = 20_000  # files of a folder that are compared before an import
COMPARE_SECONDS = 3.0
DRIVE = re.compile(r"[A-Za-z]:/")
JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


class Files:
    """Names and contents of the files in a folder. Hidden files and what systems leave behind are not listed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Findings()  # what is left out, or doubtful
        self.empty: list[str] = []  # folders without any file
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
            with (self.path / name).open("rb") as file:
                self._check_size(name, os.fstat(file.fileno()).st_size)
                return file.read(MAX_FILE + 1)
        except OSError as error:
            raise _unreadable(error) from error

    def head(self, name: str) -> bytes:
        """The first HEAD bytes of a file.

        Raises:
            DataError: it is unreadable.
        """
        try:
            with (self.path / name).open("rb") as file:
                return file.read(HEAD)
        except OSError as error:
            raise _unreadable(error) from error

    def shared(self, parts: Sequence[Sequence[str]]) -> list[int] | None:
        """How many files of each part an earlier part has too, byte for byte; None where that would take too long."""
        if sum(map(len, parts)) > COMPARED:
            return None
        end = time.monotonic() + COMPARE_SECONDS
        seen: set[object] = set()
        counts = []
        for names in parts:
            own = []
            for name in names:
                if time.monotonic() > end:
                    return None
                own.append(self._content(name))
            counts.append(sum(content in seen for content in own))
            seen.update(own)
        return counts

    def _content(self, name: str) -> object:
        """What is equal for equal files."""
        try:
            return hashlib.blake2b(self.read(name), digest_size=16).digest()
        except DataError:
            return name  # named when its turn comes

    def _list(self) -> list[str]:
        found: list[str] = []
        for folder, inner, files in os.walk(self.path, onerror=self._unopened):
            inner[:] = sorted(name for name in inner if not _is_junk(name))
            base = os.path.relpath(folder, self.path).replace(os.sep, "/")
            if not inner and all(map(_is_junk, files)) and base != ".":
                self.empty.append(base)
            for name in files:
                if _is_junk(name):
                    continue
                if Path(folder, name).is_file():  # follows links; a pipe or device would block for ever
                    found.append(name if base == "." else f"{base}/{name}")
                else:
                    self.found.skip(f"{base}/{name}", "It is no regular file.", "Remove it, or mend the link.")
            if len(found) > MAX_ENTRIES:
                raise DataError(f"{self.path.name!r} has more than {MAX_ENTRIES:,} files.", "Import a part of it.")
        return found

    def _unopened(self, error: OSError) -> None:
        reason = f"The folder cannot be opened: {error.strerror or error}."
        self.found.skip(str(error.filename), reason, "Check its permissions.")

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
        report_twice(self._zip, self.found)

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

    def head(self, name: str) -> bytes:
        """The first HEAD bytes of a file.

        Raises:
            DataError: it is damaged or packed in an unusual way.
        """
        try:
            with self._zip.open(self._entries[name]) as file:
                return file.read(HEAD)
        except BROKEN as error:
            raise DataError(f"It is damaged inside the zip: {error}.", "Make the zip again.") from error

    def shared(self, parts: Sequence[Sequence[str]]) -> list[int] | None:
        """The same, by what the list of entries says of their contents."""
        seen: set[object] = set()
        counts = []
        for names in parts:
            own = [(self._entries[name].CRC, self._entries[name].file_size) for name in names]
            counts.append(sum(content in seen for content in own))
            seen.update(own)
        return counts

    def _list(self) -> list[str]:
        used = {name.rsplit("/", 1)[0] for name in self._entries if not _is_junk(name.rsplit("/", 1)[-1])}
        parents = {
            "/".join(parts[:deep]) for name in used for parts in (name.split("/"),) for deep in range(1, len(parts))
        }
        folders = [_name(entry).rstrip("/") for entry in self._zip.infolist() if entry.is_dir()]
        inner = {folder.rsplit("/", 1)[0] for folder in folders if "/" in folder}
        self.empty = [
            folder
            for folder in folders
            if folder not in used | parents | inner and not any(_is_junk(part) for part in folder.split("/"))
        ]
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
        _check_directory(path)
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


def report_twice(archive: zipfile.ZipFile, findings: Findings) -> None:
    """Name the entries that a zip holds more than once."""
    seen: dict[str, int] = {}
    for entry in archive.infolist():
        seen[_name(entry)] = seen.get(_name(entry), 0) + 1
    for name, count in seen.items():
        if count > 1 and not name.endswith("/"):
            findings.warn(
                name, f"The zip holds {count} entries of this name; the last one was read.", "Give each its own name."
            )


def directory(path: Path) -> tuple[int, int]:
    """(entries, bytes) of the list of entries of a zip, as its last lines declare them; (0, 0) where there are none."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL))
        tail = file.read(TAIL)
    at, wide = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    if at < 0 or len(tail) < at + 22:
        return 0, 0  # zipfile says what is wrong
    count, length = struct.unpack_from("<HI", tail, at + 10)
    if wide >= 0 and len(tail) >= wide + 56:
        count, length = struct.unpack_from("<QQ", tail, wide + 32)
    return count, min(length, size)


def _check_directory(path: Path) -> None:
    """Refuse a list of entries that is too long, before it is read: each entry takes about a kilobyte of memory."""
    count, length = directory(path)
    if count > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise _too_many(count, path)


def _too_many(count: int, path: Path) -> DataError:
    return DataError(
        f"{path.name!r} has {count:,} entries; at most {MAX_ENTRIES:,} are read.",
        "Unpack it and import the folder with the command line.",
    )


def _unreadable(error: OSError) -> DataError:
    return DataError(f"It cannot be read: {error.strerror or error}.", "Check the file, or remove it.")


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise _too_many(len(entries), path)
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
    if name.startswith("/") or DRIVE.match(name) or ".." in name.split("/"):
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
