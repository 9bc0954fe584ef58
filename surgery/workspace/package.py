"""One project as a package: its rows of the catalogue and its files, to be put into any workspace.

    package = pack(store, project_id)
    unpack(store, package, other_project_id)

Everything gets a new id, in the rows and in the JSON files that name it, so that a package can be unpacked as often as
one likes. Scans keep their names, which say what was scanned. Nothing here imports torch.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, LargeBinary, func, insert, select, update

from surgery.errors import WorkspaceError
from surgery.workspace import catalogue, checksums, files, integrity, scans
from surgery.workspace.catalogue import projects, versions
from surgery.workspace.identity import KINDS
from surgery.workspace.store import Store, fetch, find, new_id

Row = dict[str, Any]
Make = Callable[[Path], object]
TABLES = ("versions", "lineage", "datasets", "selections", "must_keep", "fleets", "jobs")
_HERE = ("slot", "pid", "pid_created", "host", "lock", "heartbeat", "number")  # of a job: the place where it ran
_OWN = ("id", "name", "created", "revision")  # of a project: what stays as it is where the package goes
_TEXTS = (".json", ".jsonl")  # files that may name ids, or the workspace's folder
_SEALS = (integrity.RECORD, checksums.LIST)
_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{10}(?![0-9a-f])")
_HOME = b"{home}"


@dataclass(frozen=True)
class Package:
    """rows: of each table. files: "versions/ID/model.safetensors", …, with their content; ids are the package's own."""

    rows: Mapping[str, Sequence[Row]]
    files: Mapping[str, bytes]

    @property
    def project(self) -> Row:
        """The row of the project itself."""
        return self.rows["projects"][0]


def pack(store: Store, project: str, *, without: Collection[str] = ()) -> Package:
    """Read a project with all that belongs to it, except its trash, its activity log and jobs that are not done.

    without: ids of datasets whose files are left out: whoever unpacks makes them again.
    """
    with store.read() as db:
        rows = {"projects": [find(db, projects, project, "project")]}
        for name in TABLES:
            table = catalogue.metadata.tables[name]
            rows[name] = [
                _told(row) for row in fetch(db, select(table).where(table.c.project == project)) if _stays(row)
            ]
    folders = [
        store.home / kind / row["id"] for kind in (*KINDS, "jobs") for row in rows[kind] if row["id"] not in without
    ]
    folders += [folder for row in rows["versions"] for folder in scans.of_model(store, row["digest"])]
    home = _in_json(store)
    content = {
        path.relative_to(store.home).as_posix(): _placed(path, home, _HOME)
        for folder in folders
        for path in _files(folder)
    }
    return Package(json.loads(json.dumps(rows).encode().replace(home, _HOME)), content)


def unpack(store: Store, package: Package, project: str, make: Mapping[str, Make] | None = None) -> None:
    """Put a package into an empty project, which keeps its name: all of it, or nothing.

    make: writes the files of a dataset that came without; by its id in the package.

    Raises:
        DiskFullError: nothing was written.
        WorkspaceError: there is something in the project already.
    """
    ids = {id: new_id() for kind in TABLES for row in package.rows[kind] if (id := row.get("id"))}
    ids[package.project["id"]] = project
    rows = json.loads(_renamed(json.dumps(package.rows).encode(), store, ids))
    with files.full_disk_refused(f"the project {package.project['name']!r}"), ExitStack() as stack:
        staged: dict[str, Path] = {}  # "versions/ID" -> where its files are until all are there
        for name, content in package.files.items():
            kind, old, inside = name.split("/", 2)
            id = ids.get(old, old)
            if (folder := f"{kind}/{id}") not in staged:
                staged[folder] = stack.enter_context(files.staging(store.home, new_id() if kind == "scans" else id))
            path = staged[folder] / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_renamed(content, store, ids) if path.suffix in _TEXTS else content)
        for old, write in (make or {}).items():
            made = stack.enter_context(files.staging(store.home, ids[old]))
            staged[f"datasets/{ids[old]}"] = made
            write(made)
        _publish(store, project, rows, staged)


def _publish(store: Store, project: str, rows: Mapping[str, list[Row]], staged: Mapping[str, Path]) -> None:
    """Put all folders in place and add all rows, in one transaction."""
    for row in rows["datasets"]:
        row |= _made(staged[f"datasets/{row['id']}"])
    for folder in staged.values():
        files.force_to_disk(folder)
    sums = {name: checksums.of_folder(folder) for name, folder in staged.items()}
    placed: list[Path] = []
    try:
        with store.write() as db:
            owner = find(db, projects, project, "project")
            _require_empty(db, owner)
            (packed,) = rows["projects"]
            values = {name: value for name, value in packed.items() if name in projects.c and name not in _OWN}
            owner |= values
            for kind in KINDS:
                for row in rows[kind]:
                    name = f"{kind}/{row['id']}"
                    row["checksum"] = integrity.seal(staged[name], kind, row, owner, sums[name])
            for name in TABLES:
                _insert(db, name, rows[name])
            db.execute(update(projects).where(projects.c.id == project).values(**values))
            store.record(db, f"unpacked {packed['name']!r}", project=project, subject=project)
            for name, folder in staged.items():
                if name.startswith("scans/"):
                    checksums.write(folder, sums[name])
                if not (target := store.home / name).exists():  # a scan may be there: its name says what it holds
                    placed.append(target)
                    files.publish(folder, target)
    except BaseException:
        with store.read() as db:  # an interrupt may also come just after the transaction was committed
            if not db.scalar(select(func.count()).where(versions.c.project == project)):
                for target in placed:
                    shutil.rmtree(target, ignore_errors=True)
        raise


def _require_empty(db: Connection, owner: Mapping[str, Any]) -> None:
    used = [name for name in KINDS if fetch(db, select(KINDS[name].c.id).where(KINDS[name].c.project == owner["id"]))]
    if used:
        raise WorkspaceError(
            f"The project {owner['name']!r} has {' and '.join(used)} already.", "Unpack into a new project."
        )


def _insert(db: Connection, name: str, rows: Sequence[Row]) -> None:
    """Add rows; columns that this catalogue does not have are left out."""
    table = catalogue.metadata.tables[name]
    for row in rows:
        values = {column: value for column, value in row.items() if column in table.c}
        for column in table.c:
            if isinstance(column.type, LargeBinary) and values.get(column.name) is not None:
                values[column.name] = base64.b64decode(values[column.name])
        db.execute(insert(table).values(**values))


def _made(folder: Path) -> Row:
    """What the row of a dataset says of its files; one that was made here may have come out otherwise."""
    from surgery.data.dataset import Dataset

    return {"digest": Dataset.open(folder).digest, "bytes": files.size(folder)}


def _stays(row: Mapping[str, Any]) -> bool:
    return row.get("state", "ready") in ("ready", "done")


def _told(row: Row) -> Row:
    """A row as JSON has it, without what only means something where it was made."""
    job = "heartbeat" in row
    told = {name: value for name, value in row.items() if not (job and name in _HERE)}
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in told.items()
    }


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder that are the same anywhere."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".lock" and path.name not in _SEALS:
            yield path


def _in_json(store: Store) -> bytes:
    """The workspace's folder as it is written in JSON."""
    return json.dumps(str(store.home))[1:-1].encode()


def _placed(path: Path, old: bytes, new: bytes) -> bytes:
    content = path.read_bytes()
    return content.replace(old, new) if path.suffix in _TEXTS else content


def _renamed(content: bytes, store: Store, ids: Mapping[str, str]) -> bytes:
    """Text with the new ids, and with this workspace's folder."""
    content = content.replace(_HOME, _in_json(store))
    return _ID.sub(lambda found: ids.get(found[0].decode(), found[0].decode()).encode(), content)
