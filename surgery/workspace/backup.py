"""The whole workspace as one archive with checksums, written while jobs may run, and read back.

    backup(store, Path("surgery.zip"))
    restore(Path("surgery.zip"), Path("new-home"))

The catalogue is copied in one consistent read; what it lists is immutable, so it can be copied afterwards. The trash
cannot be emptied meanwhile. The archive is a plain zip; its last member lists the SHA-256 of all others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sqlalchemy import create_engine, func, insert, select, update
from sqlalchemy.exc import DatabaseError

from surgery.errors import WorkspaceError
from surgery.workspace import catalogue, files, identity, liveness, schema
from surgery.workspace.identity import KINDS
from surgery.workspace.store import Store, catalogue_named, fetch, new_id
from surgery.workspace.trash import BACKUP_LOCK

LIST = "archive.json"
COPIES = "backups"  # folder of the catalogue's own copies
KEPT, AGE = 3, 86_400.0  # how many, and seconds after which the next one is made
_BLOCK = 1 << 20
_OTHERS = ("scans", "jobs")  # may change meanwhile; each file is as it was when it was read
_WHILE_RUNNING = "The backup was made while it waited or ran. Run it again."


@dataclass(frozen=True)
class Archived:
    """What an archive holds. damaged: files that are not as they were committed; they are in it as they are."""

    files: int
    bytes: int
    damaged: tuple[str, ...]


def copy_catalogue(store: Store, target: Path) -> None:
    """Write every row of the catalogue, of one moment, into a new SQLite file."""
    engine = create_engine(catalogue.sqlite_url(target))
    try:
        with store.read() as db, engine.begin() as out:
            catalogue.metadata.create_all(out)
            for table in catalogue.metadata.sorted_tables:
                for rows in db.execute(select(table)).mappings().partitions(1000):
                    out.execute(insert(table), [dict(row) for row in rows])
    finally:
        engine.dispose()


def keep_copy(store: Store) -> None:
    """Keep a copy of a catalogue that is a file, at most one a day, for `surgery doctor`; the last few stay."""
    folder = store.home / COPIES
    present = sorted(folder.glob("catalogue-*.db")) if folder.is_dir() else []
    if store.engine.dialect.name != "sqlite" or (present and abs(time.time() - present[-1].stat().st_mtime) < AGE):
        return
    with store.read() as db:
        if not db.scalar(select(func.count()).select_from(catalogue.projects)):
            return
    name = f"catalogue-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.db"
    made = folder / f".{name}.{new_id()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        copy_catalogue(store, made)
        made.rename(folder / name)
    except (OSError, DatabaseError):  # a full disk, say: the workspace can be used without
        logging.getLogger(__name__).warning("the catalogue could not be copied", exc_info=True)
        made.unlink(missing_ok=True)
        return
    for old in present[: max(0, len(present) + 1 - KEPT)]:
        old.unlink(missing_ok=True)


def backup(store: Store, target: Path, told: Callable[[str], None] = lambda _: None) -> Archived:
    """Write the workspace into a new file; told: is given the name of each folder before it is written.

    Raises:
        WorkspaceError: the file exists already, or another backup is being written.
        DiskFullError: nothing is left behind.
    """
    if target.exists():
        raise WorkspaceError(f"{target} exists already.", "Name another file.")
    part = target.with_name(f".{target.name}.{new_id()}")
    try:
        with liveness.holding(store.home / BACKUP_LOCK), files.full_disk_refused(f"the backup {target}"):
            with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                made = _write(store, archive, told)
            part.rename(target)
        return made
    except BlockingIOError as error:
        raise WorkspaceError("Another backup of this workspace is being written.", "Wait for its end.") from error
    finally:
        part.unlink(missing_ok=True)


def restore(source: Path, home: Path) -> Archived:
    """Make a workspace of an archive in a folder that is empty or does not exist; jobs that ran are failed.

    With SURGERY_DATABASE the catalogue goes there.

    Raises:
        WorkspaceError: the archive is damaged, or there is something in the folder or the database already.
    """
    if home.exists() and any(home.iterdir()):
        raise WorkspaceError(f"{home} is not empty.", "Name a new folder: set SURGERY_HOME, or give --home.")
    home.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        with files.full_disk_refused(f"the workspace {home}"):
            found = _extract(source, staged)
            _end_jobs(staged / catalogue.FILE)
            if url := os.environ.get("SURGERY_DATABASE"):
                _into_database(staged / catalogue.FILE, url)
            files.force_to_disk(staged)
        if home.exists():
            home.rmdir()
        staged.rename(home)
        return found
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write(store: Store, archive: zipfile.ZipFile, told: Callable[[str], None]) -> Archived:
    sums: dict[str, str] = {}
    damaged: list[str] = []
    size = 0
    with tempfile.TemporaryDirectory(prefix="surgery-backup-") as folder:
        copied = Path(folder) / catalogue.FILE
        copy_catalogue(store, copied)
        sums[catalogue.FILE], size = _add(archive, copied, catalogue.FILE)
        names = _listed(copied)
    sums[identity.FILE], added = _add(archive, store.home / identity.FILE, identity.FILE)
    size += added
    others = [f"{kind}/{path.name}" for kind in _OTHERS for path in sorted((store.home / kind).iterdir())]
    for name in (*names, *others):
        told(name)
        for path in _files(store.home / name):
            inside = path.relative_to(store.home).as_posix()
            try:
                sums[inside], added = _add(archive, path, inside)
            except FileNotFoundError:  # of a scan or job that changes; what the catalogue lists does not
                if name in names:
                    damaged.append(f"{inside} is missing")
                continue
            size += added
        if name in names:
            damaged += _differences(store.home / name, name, sums)
    about = {"format": 1, "workspace": identity.of_folder(store.home), "made": time.time(), "files": sums}
    archive.writestr(LIST, json.dumps(about, indent=1))
    return Archived(len(sums), size, tuple(damaged))


def _listed(copied: Path) -> list[str]:
    """The folders that a copied catalogue lists, those in its trash included."""
    engine = create_engine(catalogue.sqlite_url(copied))
    try:
        with engine.begin() as db:
            return [f"{kind}/{id}" for kind, table in KINDS.items() for id in db.scalars(select(table.c.id))]
    finally:
        engine.dispose()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix != ".lock":
            yield path


def _differences(folder: Path, name: str, sums: dict[str, str]) -> list[str]:
    """The files that are not what the folder's own list says."""
    try:
        said = json.loads((folder / "checksums.json").read_bytes())["files"]
    except FileNotFoundError:
        return [] if folder.is_dir() else [f"{name} is missing"]
    except (OSError, ValueError, KeyError):
        return [f"{name}/checksums.json is damaged"]
    return [f"{name}/{file} changed" for file, sum in said.items() if sums.get(f"{name}/{file}") != sum]


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> tuple[str, int]:
    """Copy a file into the archive; its SHA-256 and bytes as they went in."""
    total, size = hashlib.sha256(), 0
    with path.open("rb") as source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as out:
        while block := source.read(_BLOCK):
            total.update(block)
            size += out.write(block)
    return total.hexdigest(), size


def _extract(source: Path, target: Path) -> Archived:
    """Unpack an archive whose every file is what its list says.

    Raises:
        WorkspaceError: it is no archive of ours, or damaged; names the file.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            sums: dict[str, str] = json.loads(archive.read(LIST))["files"]
            size = sum(_take(archive, name, sum, target) for name, sum in sums.items())
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None and source.exists() and os.access(source, os.R_OK):
            raise
        raise WorkspaceError(
            f"{source} is no complete archive of a workspace: {error}.", "Use another backup; nothing was changed."
        ) from error
    if catalogue.FILE not in sums or identity.FILE not in sums:
        raise WorkspaceError(f"{source} holds no catalogue.", "Use another backup; nothing was changed.")
    return Archived(len(sums), size, ())


def _take(archive: zipfile.ZipFile, name: str, sum: str, target: Path) -> int:
    """Unpack one file and compare it; its bytes."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        raise WorkspaceError(f"The archive names a file outside the workspace: {name!r}.", "Do not use it.")
    inside, total, size = target / path, hashlib.sha256(), 0
    inside.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, inside.open("xb") as out:
        while block := source.read(_BLOCK):
            total.update(block)
            size += out.write(block)
    if total.hexdigest() != sum:
        raise WorkspaceError(f"{name} in the archive is damaged.", "Use another backup; nothing was changed.")
    return size


def _end_jobs(path: Path) -> None:
    """Fail what waited or ran: its process is not here."""
    engine, jobs = create_engine(catalogue.sqlite_url(path)), catalogue.jobs
    try:
        with engine.begin() as db:
            active = jobs.c.state.in_(("queued", "running"))
            values = {"state": "failed", "ended": time.time(), "reason": _WHILE_RUNNING}
            db.execute(update(jobs).where(active).values(**values))
            db.execute(update(jobs).values(slot=None))
    finally:
        engine.dispose()


def _into_database(path: Path, url: str) -> None:
    """Move the rows of a catalogue file into an empty database.

    Raises:
        WorkspaceError: it holds rows already.
    """
    source, target = create_engine(catalogue.sqlite_url(path)), catalogue.connect(url)
    try:
        with catalogue_named(target):
            schema.prepare(target)
            with source.connect() as rows, target.execution_options(writes=True).begin() as db:
                if any(db.scalar(select(func.count()).select_from(table)) for table in KINDS.values()):
                    raise WorkspaceError("The database that SURGERY_DATABASE names is in use.", "Name an empty one.")
                for table in catalogue.metadata.sorted_tables:
                    db.execute(table.delete())
                    if found := fetch(rows, select(table)):
                        db.execute(insert(table), found)
    finally:
        source.dispose()
        target.dispose()
    path.unlink()
