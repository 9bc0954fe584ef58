"""Faults of processes and machines: killed at any moment, full and read-only disks, locks, other machines, clocks.

Every family makes its faults one after the other in workspaces of its own and returns (how many were made, what went
wrong). A family that this machine does not allow returns None and says so in the table.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.fault_files import Verdict, attempt, boxes
from surgery import jobs
from surgery.errors import SurgeryError
from surgery.jobs import kinds, probe
from surgery.plan import Plan
from surgery.workspace import Workspace, catalogue, files, integrity, queue
from tests.conftest import SIDES
from tests.hostile import committer
from tests.jobs import sleeper
from tests.patients import mlp

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0
Outcome = tuple[int, Verdict]


def _until(happened: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {patience:.0f} s")
        time.sleep(0.01)


def _whole(home: Path, verdict: Verdict, versions: set[str]) -> None:
    """Open a workspace anew: every version that was committed is there and as it was."""
    integrity._checked.clear()
    there: set[str] = set()

    def act() -> None:
        ws = Workspace(home)
        there.update(version.id for project in ws.projects() for version in ws.versions(project.id))
        for id in there:
            ws.verify(id)
        ws.store.engine.dispose()

    if refusal := attempt(act, verdict):
        verdict.said.append(str(refusal))
    verdict.lost += len(versions - there)
    verdict.not_brought_back += len({path.name for path in (home / "versions").iterdir()} ^ there)


def committers_killed(chance: random.Random, count: int, folder: Path) -> Outcome:
    """One or two processes commit for ever, and are killed at any moment."""
    ws, verdict = Workspace(folder / "home"), Verdict()
    project = ws.create_project("Boxes").id
    for _ in range(count):
        before = {version.id for version in ws.versions(project)}
        children = [
            committer.start(committer.commit_for_ever, ws.home, project) for _ in range(chance.choice([1, 1, 2]))
        ]
        _until(lambda before=before: len(ws.versions(project)) > len(before), "a commit")
        time.sleep(chance.uniform(0, 0.05))
        told = {version.id for version in ws.versions(project)}
        for child in children:
            child.kill()
            child.join(60)
        _whole(ws.home, verdict, told)
    return count, verdict


def workers_killed(chance: random.Random, count: int, folder: Path) -> Outcome:
    """A real plan in a real worker, killed at any moment of its life."""
    ws, verdict = Workspace(folder / "home"), Verdict()
    project = ws.create_project("Boxes").id
    data = ws.add_dataset(project, "boxes", boxes)
    root = ws.commit(project, replace(mlp(), classes=SIDES), name="Original")
    plan = Plan(operation="prune", parameters={"remove": [1]}, inputs=(root.id,), dataset=data.id)
    task = {"kind": "plan", "plan": plan.model_dump(mode="json")}
    start = time.monotonic()
    first = jobs.submit(ws, task, project=project, title="Cut")
    _until(lambda: not jobs.status(ws, first.id).active, "the first job")
    life = time.monotonic() - start
    for _ in range(count):
        job = jobs.submit(ws, task, project=project, title="Cut")
        time.sleep(chance.uniform(0, life))
        with suppress(psutil.NoSuchProcess):
            psutil.Process(job.pid).kill()
        _until(lambda id=job.id: not jobs.status(ws, id).active, "its end")
        ended = jobs.status(ws, job.id)
        made = ended.result.get("version") if ended.state == "done" else None
        there = {version.id for version in ws.versions(project)}
        verdict.untrue += (made is not None and made not in there) or ended.state not in ("done", "failed")
        verdict.untrue += ended.state == "failed" and "signal 9" not in ended.reason
        _whole(ws.home, verdict, there)
    return count, verdict


def probes_killed(chance: random.Random, count: int, folder: Path) -> Outcome:
    """A probe is killed while it answers or rests; the next question is answered."""
    ws, verdict = Workspace(folder / "home"), Verdict()
    project = ws.create_project("Boxes").id
    data = ws.add_dataset(project, "boxes", boxes)
    root = ws.commit(project, replace(mlp(), classes=SIDES), name="Original")
    question = {"what": "whatif", "remove": [0], "fill": "mean"}
    for _ in range(count):
        with suppress(SurgeryError):
            probe.ask(ws, root.id, data.id, question)
        card = probe.Card.of(probe.place(ws, root.id, data.id, "cpu"))
        if card is not None:
            psutil.Process(card.pid).kill()
        if refusal := attempt(lambda: probe.ask(ws, root.id, data.id, question), verdict):
            verdict.untrue += 1
            verdict.said.append(str(refusal))
        _whole(ws.home, verdict, {root.id})
    probe.stop(ws, root.id, data.id)
    return count, verdict


def apps_killed(chance: random.Random, count: int, folder: Path) -> Outcome:
    """The app is killed while a job runs: the job goes on or is told as it is, and the next app finds everything."""
    ws, verdict = Workspace(folder / "home"), Verdict()
    project = ws.create_project("Boxes").id
    root = ws.commit(project, mlp(), name="Original")
    environment = {**os.environ, "SURGERY_HOME": str(ws.home)}
    for number in range(count):
        command = [sys.executable, "-m", "surgery.cli", "--port", str(18_500 + number), "--no-browser"]
        app = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.5, 6.0))
        app.kill()
        app.wait(60)
        _whole(ws.home, verdict, {root.id})
    return count, verdict


@contextmanager
def _disk(folder: Path, size: str) -> Iterator[Path | None]:
    """A small disk of its own, where this machine lets us mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disks(chance: random.Random, count: int, folder: Path) -> Outcome | None:
    """A disk that fills up at some moment of a commit, an import or a start."""
    verdict = Verdict()
    with _disk(folder / "disk", "16m") as disk:
        if disk is None:
            return None
        ws = Workspace(disk / "home")
        project = ws.create_project("Small").id
        root = ws.commit(project, mlp(), name="Original")
        for _ in range(count):
            free = shutil.disk_usage(disk).free
            filler = disk / "filler"
            filler.write_bytes(bytes(max(0, free - chance.randrange(0, 400_000))))
            attempt(lambda: ws.commit(project, mlp((4, 100, 100, 3)), name="may not fit"), verdict)
            filler.unlink()
            if ws.project(project).current != root.id:
                ws.make_current(project, root.id)
            for version in ws.versions(project):
                if version.id != root.id:
                    ws.trash_version(version.id)
            ws.empty_trash()
            _whole(ws.home, verdict, {root.id})
    return count, verdict


def read_only(chance: random.Random, count: int, folder: Path) -> Outcome | None:
    """The disk turns read-only: everything says so in words, and goes on when it is writable again."""
    verdict = Verdict()
    with _disk(folder / "disk", "8m") as disk:
        if disk is None:
            return None
        ws = Workspace(disk / "home")
        project = ws.create_project("Small").id
        root = ws.commit(project, mlp(), name="Original")
        acts: list[Callable[[], object]] = [
            lambda: ws.commit(project, mlp(), name="x"),
            lambda: ws.rename_project(project, "y"),
            lambda: Workspace(ws.home),
            lambda: ws.undo(project),
            lambda: jobs.submit(ws, {"kind": "export", "version": root.id}, project=project, title="x"),
        ]
        for _ in range(count):
            ws.store.engine.dispose()  # a disk with files open for writing does not turn read-only on demand
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            verdict.unnoticed += attempt(chance.choice(acts), verdict) is None
            ws.store.engine.dispose()
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            _whole(ws.home, verdict, {root.id})
    return count, verdict


def locked(chance: random.Random, count: int, folder: Path) -> Outcome:
    """Another program holds the catalogue: writers say so in words and change nothing."""
    ws, verdict = Workspace(folder / "home"), Verdict()
    project = ws.create_project("Boxes").id
    root = ws.commit(project, mlp(), name="Original")
    wait, catalogue.WAIT = catalogue.WAIT, 0.2
    try:
        for _ in range(count):
            ws = Workspace(ws.home)
            with closing(sqlite3.connect(ws.home / "catalogue.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                acts: list[Callable[[], object]] = [
                    lambda ws=ws: ws.commit(project, mlp(), name="x"),
                    lambda ws=ws: ws.rename_project(project, "y"),
                    lambda ws=ws: ws.trash_project(project),
                ]
                verdict.unnoticed += attempt(chance.choice(acts), verdict) is None
                other.execute("ROLLBACK")
            _whole(ws.home, verdict, {root.id})
    finally:
        catalogue.WAIT = wait
    return count, verdict


_LOOK = (
    "import sys\nfrom pathlib import Path\nfrom surgery import jobs\nfrom surgery.workspace import Workspace\n"
    "from tests.jobs.sleeper import ENGINE\n"
    "print(jobs.status(Workspace(Path(sys.argv[1])), sys.argv[2], engine=ENGINE).state)\n"
)


@contextmanager
def _sleeping(folder: Path) -> Iterator[tuple[Workspace, str]]:
    """A workspace with a job that sleeps until it is cancelled."""
    known = dict(kinds.KINDS)
    kinds.KINDS.update(sleeper.KINDS)
    ws = Workspace(folder / "home")
    try:
        project = ws.create_project("Sleep").id
        task = {"kind": "sleep", "steps": 100_000, "pause": 0.05}
        job = jobs.submit(ws, task, project=project, title="Sleep", engine=sleeper.ENGINE)
        _until(lambda: jobs.status(ws, job.id, engine=sleeper.ENGINE).percent is not None, "the job's start")
        yield ws, job.id
    finally:
        for one in queue.listing(ws.store, None):
            jobs.cancel(ws, one.id, engine=sleeper.ENGINE)
        kinds.KINDS.clear()
        kinds.KINDS.update(known)


def _seen_by(prefix: list[str], count: int, folder: Path, **environment: str) -> Outcome | None:
    """How a living job and a staging folder in use look to a process that is started in some way."""
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        return None
    verdict = Verdict()
    with _sleeping(folder) as (ws, job):
        for _ in range(count):
            command = [*prefix, sys.executable, "-c", _LOOK, str(ws.home), job]
            with files.staging(ws.home, "abc123") as staged:
                seen = subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}, check=False
                )
                verdict.lost += not staged.exists()
            verdict.untrue += seen.stdout.strip() != "running"
            verdict.said += [seen.stderr[-300:]] if seen.returncode else []
        verdict.untrue += jobs.status(ws, job, engine=sleeper.ENGINE).state != "running"
    return count, verdict


def other_namespaces(_chance: random.Random, count: int, folder: Path) -> Outcome | None:
    """From a container on the same machine, where process ids mean something else."""
    return _seen_by(["unshare", "--pid", "--fork", "--mount-proc"], count, folder)


def other_machines(_chance: random.Random, count: int, folder: Path) -> Outcome | None:
    """From a second machine on the same workspace."""
    return _seen_by(["env"], count, folder, SURGERY_HOST="a second machine")


def clocks(chance: random.Random, count: int, folder: Path) -> Outcome | None:
    """The clock is set by up to two hours, back or forth (libfaketime)."""
    if not shutil.which("faketime"):
        return None
    verdict, made = Verdict(), 0
    for number in range(count):
        step = f"{chance.choice('+-')}{chance.randint(3_000, 7_200)}s"
        found = _seen_by(["faketime", "-f", step], 1, folder / str(number))
        if found is None:
            return None
        made += found[0]
        verdict.add(found[1])
    return made, verdict


Family = Callable[[random.Random, int, Path], Outcome | None]
FAMILIES: dict[str, tuple[Family, int, int]] = {  # how often, and in the quick form
    "committers killed, alone or two at once": (committers_killed, 60, 4),
    "workers killed": (workers_killed, 25, 1),
    "probes killed": (probes_killed, 10, 1),
    "apps killed": (apps_killed, 10, 1),
    "disk full": (full_disks, 30, 4),
    "disk read-only": (read_only, 20, 2),
    "catalogue locked": (locked, 20, 2),
    "seen from another process namespace": (other_namespaces, 10, 1),
    "seen from another machine": (other_machines, 10, 1),
    "clock set": (clocks, 10, 1),
}


def run(family: str, seed: int, *, quick: bool) -> Outcome | None:
    """Make the faults of one family; None where this machine does not allow them."""
    make, full, few = FAMILIES[family]
    with tempfile.TemporaryDirectory(prefix="surgery-faults-") as folder:
        return make(random.Random(f"{seed} {family}"), few if quick else full, Path(folder))
