"""Faults of files: what can become of a workspace's catalogue and folders while nobody works in it.

Each fault is made by chance in a copy of a small workspace, then judged: what the fault itself did not touch must still
be there byte for byte, what it did touch must be noticed, and the doctor must bring back the rest.
"""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.errors import DamagedError, SurgeryError
from surgery.workspace import Workspace, doctor, integrity
from surgery.workspace.identity import KINDS
from tests.conftest import SIDES
from tests.patients import mlp

CATALOGUE = "catalogue.db"
_MINE = ("mine.txt", "README.md", ".hidden", "old")  # files of the user's own
Sums = dict[str, str]


@dataclass
class Verdict:
    """What one fault did, in counts that should all be 0. said: what went wrong, for the table."""

    lost: int = 0  # versions or datasets that are gone, or not as they were
    unnoticed: int = 0  # damage that was not named
    untrue: int = 0  # jobs in a state that they are not in
    not_brought_back: int = 0  # what the doctor left out
    raw_errors: int = 0  # exceptions that say nothing to a user
    said: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Sum up."""
        for name in ("lost", "unnoticed", "untrue", "not_brought_back", "raw_errors"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.said += other.said


def attempt(act: Callable[[], object], verdict: Verdict) -> SurgeryError | None:
    """Do something that may be refused in words; the refusal. Any other exception is counted as a raw error."""
    try:
        act()
    except SurgeryError as refusal:
        return refusal
    except Exception as error:
        logging.exception("a raw error")
        verdict.raw_errors += 1
        verdict.said.append(f"{type(error).__name__}: {error}")
    return None


@dataclass(frozen=True)
class Master:
    """A workspace to copy: three versions, a dataset, a fleet, one version in the trash; and its catalogue earlier."""

    home: Path
    older: Path  # the catalogue before the last version
    foreign: Path  # the catalogue of another workspace
    sums: Sums


def master(folder: Path) -> Master:
    """Make the workspace that all faults of files begin with."""
    ws = Workspace(folder / "home", who="ada")
    project = ws.create_project("Boxes").id
    ws.add_dataset(project, "boxes", boxes)
    models = [replace(mlp(seed=number), classes=SIDES) for number in range(4)]
    first = ws.commit(project, models[0], name="Original", plan=None)
    second = ws.commit(
        project, models[1], name="Cut", parent=first.id, plan={"operation": "x"}, receipt={"title": "X", "table": []}
    )
    ws.trash_version(ws.commit(project, models[2], name="Discarded", make_current=False).id)
    _add_fleet(ws, project, {"a": first.id, "b": second.id})
    ws.store.engine.dispose()
    older = Path(shutil.copy(ws.home / CATALOGUE, folder / "older.db"))
    ws.commit(project, models[3], name="Last", parent=second.id)
    ws.store.engine.dispose()
    other = Workspace(folder / "other")
    other.commit(other.create_project("Other").id, mlp(), name="theirs")
    other.store.engine.dispose()
    return Master(ws.home, older, other.home / CATALOGUE, sums(ws.home))


def boxes(folder: Path) -> Dataset:
    """90 rows of four features in three classes."""
    generator = random.Random(0)
    x = [[generator.gauss(5, 2) for _ in range(4)] for _ in range(90)]
    y = [max(range(3), key=row.__getitem__) for row in x]
    return from_arrays(folder, x, y, classes=SIDES, name="boxes", task="classification")


def _add_fleet(ws: Workspace, project: str, members: dict[str, str]) -> None:
    import pandas as pd

    from surgery.network import store

    documents = {"plan": {"operation": "share"}, "receipt": {"title": "Share"}}
    table = {"shares": pd.DataFrame({"guest": [1]})}
    model = replace(mlp(), classes=SIDES)
    ws.add_fleet(
        project,
        "Two",
        lambda folder: store.save(model, folder),
        members=members,
        hosts={"b": "a"},
        documents=documents,
        tables=table,
    )


def sums(home: Path) -> Sums:
    """The SHA-256 of every file that holds work."""
    return {
        path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in KINDS
        for path in sorted((home / kind).rglob("*"))
        if path.is_file() and path.parent != home / kind
    }


# Each fault changes a copy of the master and returns the folders ("versions/ID") that it damaged itself.
Fault = Callable[[random.Random, Path, Master], set[str]]


def _drop(home: Path) -> None:
    for path in home.glob(f"{CATALOGUE}*"):
        path.unlink()


def catalogue_lost(chance: random.Random, home: Path, _master: Master) -> set[str]:
    """The file is gone; or also its copies; or the id too."""
    _drop(home)
    if chance.random() < 0.5:
        shutil.rmtree(home / "backups", ignore_errors=True)
    if chance.random() < 0.3:
        (home / "workspace.json").unlink()
    return set()


def catalogue_emptied(chance: random.Random, home: Path, master: Master) -> set[str]:
    """The file has no bytes."""
    catalogue_lost(chance, home, master)
    (home / CATALOGUE).touch()
    return set()


def catalogue_truncated(chance: random.Random, home: Path, _master: Master) -> set[str]:
    """The file ends early."""
    content = (home / CATALOGUE).read_bytes()
    _drop(home)
    (home / CATALOGUE).write_bytes(content[: chance.randrange(1, len(content))])
    return set()


def catalogue_scribbled(chance: random.Random, home: Path, _master: Master) -> set[str]:
    """Some hundred bytes somewhere are other ones."""
    content = bytearray((home / CATALOGUE).read_bytes())
    start = chance.randrange(len(content))
    for place in range(start, min(len(content), start + chance.randrange(100, 4000))):
        content[place] = chance.randrange(256)
    _drop(home)
    (home / CATALOGUE).write_bytes(content)
    return set()


def catalogue_older(chance: random.Random, home: Path, master: Master) -> set[str]:
    """A backup of the catalogue from before the last version is put back."""
    _drop(home)
    shutil.copy(master.older, home / CATALOGUE)
    return set()


def catalogue_foreign(chance: random.Random, home: Path, master: Master) -> set[str]:
    """The catalogue of another workspace is put in its place."""
    _drop(home)
    shutil.copy(master.foreign, home / CATALOGUE)
    if chance.random() < 0.5:
        (home / "workspace.json").unlink()
    return set()


def rows_deleted(chance: random.Random, home: Path, _master: Master) -> set[str]:
    """Somebody deletes rows by hand."""
    with closing(sqlite3.connect(home / CATALOGUE)) as db, db:
        table = chance.choice(["versions", "datasets", "fleets", "lineage", "projects"])
        db.execute(f"DELETE FROM {table} WHERE rowid % 2 = {chance.randrange(2)}")
    return set()


def bytes_flipped(chance: random.Random, home: Path, master: Master) -> set[str]:
    """One to three bytes in one file, of any kind, are other ones."""
    name = chance.choice(sorted(master.sums))
    content = bytearray((home / name).read_bytes())
    for _ in range(chance.randint(1, 3)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    if content != (home / name).read_bytes():
        (home / name).write_bytes(content)
        return {"/".join(name.split("/")[:2])}
    return set()


def files_changed(chance: random.Random, home: Path, master: Master) -> set[str]:
    """A file is removed, truncated, or one is added."""
    name = chance.choice(sorted(master.sums))
    how = chance.choice(["remove", "truncate", "add"])
    if how == "remove":
        (home / name).unlink()
    elif how == "truncate":
        content = (home / name).read_bytes()
        (home / name).write_bytes(content[: chance.randrange(len(content))])
    else:
        (home / name).with_name("added.bin").write_bytes(b"x")
    return {"/".join(name.split("/")[:2])}


def folder_removed(chance: random.Random, home: Path, master: Master) -> set[str]:
    """A whole folder of work is deleted by hand."""
    name = "/".join(chance.choice(sorted(master.sums)).split("/")[:2])
    shutil.rmtree(home / name)
    return {name}


def foreign_files(chance: random.Random, home: Path, _master: Master) -> set[str]:
    """Files and folders of the user's own lie between ours."""
    for _ in range(chance.randint(1, 5)):
        place = home / chance.choice(["versions", "datasets", "fleets", "trash", "staging", "jobs", "uploads", "scans"])
        name = chance.choice(["README.md", "0123456789", "old", ".hidden", "deadbeef00.1.2"])
        if chance.random() < 0.5 and not (place / name).exists():
            (place / name).mkdir()
            (place / name / "mine.txt").write_text("mine")
        elif not (place / name).exists():
            (place / name).write_text("mine")
    return set()


def id_changed(chance: random.Random, home: Path, _master: Master) -> set[str]:
    """The file with the workspace's id is gone, unreadable, or another one's."""
    how = chance.choice([None, "{", '{"id": "ffffffffff"}', "", '["id"]'])
    (home / "workspace.json").unlink()
    if how is not None:
        (home / "workspace.json").write_text(how)
    return set()


FAULTS: dict[str, tuple[Fault, int]] = {  # how often each is made
    "catalogue lost": (catalogue_lost, 20),
    "catalogue emptied": (catalogue_emptied, 20),
    "catalogue truncated": (catalogue_truncated, 25),
    "catalogue scribbled over": (catalogue_scribbled, 40),
    "catalogue older": (catalogue_older, 10),
    "catalogue of another workspace": (catalogue_foreign, 10),
    "rows deleted": (rows_deleted, 20),
    "bytes flipped": (bytes_flipped, 120),
    "files removed, truncated, added": (files_changed, 40),
    "folder removed": (folder_removed, 15),
    "foreign files": (foreign_files, 25),
    "id lost or another one": (id_changed, 15),
}


def judge(chance: random.Random, fault: Fault, master: Master, folder: Path) -> Verdict:
    """Make one fault in a copy, open it, let the doctor look at it, and say what went wrong."""
    home, verdict = folder / "home", Verdict()
    shutil.copytree(master.home, home)
    integrity._checked.clear()  # as a new process
    damaged = fault(chance, home, master)
    mine = _foreign(home, master)
    _open(home, damaged, verdict)
    _kept(home, master, damaged, mine, verdict, "opening")
    _repair(home, master, damaged, verdict)
    _kept(home, master, damaged, mine, verdict, "the doctor")
    shutil.rmtree(folder)
    return verdict


def _open(home: Path, damaged: set[str], verdict: Verdict) -> None:
    """Open the workspace and everything in it, unless it refuses in words; damage must be named."""
    attempt(lambda: _open_all(home, damaged, verdict), verdict)


def _open_all(home: Path, damaged: set[str], verdict: Verdict) -> None:
    ws = Workspace(home)
    for project in ws.projects():
        for version in ws.versions(project.id):
            _first_use(f"versions/{version.id}", damaged, verdict, partial(ws.model, version.id))
        for data in ws.datasets(project.id):
            _first_use(f"datasets/{data.id}", damaged, verdict, partial(ws.dataset, data.id))
    ws.store.engine.dispose()


def _first_use(name: str, damaged: set[str], verdict: Verdict, use: Callable[[], object]) -> None:
    try:
        use()
    except DamagedError:
        return
    if name in damaged:
        verdict.unnoticed += 1
        verdict.said.append(f"{name} was opened though damaged")


def _repair(home: Path, master: Master, damaged: set[str], verdict: Verdict) -> None:
    """Let the doctor put it right; everything that is whole must be there afterwards."""
    found: set[str] = set()

    def act() -> None:
        doctor.examine(home)
        doctor.repair(home)
        integrity._checked.clear()
        found.update(_listed(home))

    if refusal := attempt(act, verdict):
        verdict.said.append(f"doctor: {refusal}")
    whole = {"/".join(name.split("/")[:2]) for name in master.sums} - damaged
    verdict.not_brought_back += len(whole - found)
    verdict.said += [f"not brought back: {name}" for name in sorted(whole - found)]
    if unseen := damaged & found:
        verdict.unnoticed += len(unseen)
        verdict.said.append(f"the doctor took {sorted(unseen)} for whole")


def _listed(home: Path) -> set[str]:
    """ "versions/ID", … of everything that the workspace lists as whole."""
    ws, found = Workspace(home), set()
    for project in (*ws.projects(), *ws.projects(trashed=True)):
        versions = [*ws.versions(project.id), *ws.versions(project.id, trashed=True)]
        lists = {"versions": versions, "datasets": ws.datasets(project.id), "fleets": ws.fleets(project.id)}
        found |= {f"{kind}/{one.id}" for kind, rows in lists.items() for one in rows if one.state != "damaged"}
    ws.store.engine.dispose()
    return found


def _foreign(home: Path, master: Master) -> Sums:
    """The files that are not ours."""
    return {name: sum for name, sum in _all(home).items() if name not in master.sums and Path(name).name in _MINE}


def _all(home: Path) -> Sums:
    return {
        path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and not path.name.startswith(CATALOGUE)
    }


def _kept(home: Path, master: Master, damaged: set[str], mine: Sums, verdict: Verdict, after: str) -> None:
    """Everything that the fault did not damage is where it was; what is the user's own may have been set aside."""
    there = _all(home)
    gone = [
        name
        for name, sum in master.sums.items()
        if "/".join(name.split("/")[:2]) not in damaged and there.get(name) != sum
    ]
    aside = sorted(sum for name, sum in there.items() if Path(name).name in _MINE)
    gone += ["files of the user's own"] if aside != sorted(mine.values()) else []
    verdict.lost += len(gone)
    verdict.said += [f"{name}: gone after {after}" for name in gone]
