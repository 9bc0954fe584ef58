"""Child processes that commit versions and are killed on the way. They are forked from a server that has torch."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from surgery.errors import DiskFullError
from surgery.workspace import Workspace, commits, files, history
from surgery.workspace.store import Store
from tests.patients import mlp

PATIENT = mlp()  # made once: the first trace of a process imports for seconds
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.hostile.committer"])


def start(target: Callable[..., None], *given: Any) -> Any:
    process = context.Process(target=target, args=given)
    process.start()
    return process


def die(*_: Any, **__: Any) -> None:
    """Go without a word, as with kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def _after(function: Callable[..., Any]) -> Callable[..., Any]:
    def dying(*given: Any, **named: Any) -> None:
        function(*given, **named)
        die()

    return dying


STAGES: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "before the model is written": (commits, "_write", die),
    "with the model written": (files, "force_to_disk", die),
    "with the row inserted": (history, "advance", die),
    "just before the rename": (files, "publish", die),
    "just after the rename": (files, "publish", _after(files.publish)),
    "after the commit": (commits, "_publish", _after(commits._publish)),
}


def killed_at(home: Path, project: str, stage: str) -> None:
    """Commit a version and die at `stage`."""
    place, name, replacement = STAGES[stage]
    setattr(place, name, replacement)
    Workspace(home).commit(project, PATIENT, name="doomed")


def commit_for_ever(home: Path, project: str) -> None:
    """Open the workspace, which sweeps it, and commit a version, until killed."""
    while True:
        Workspace(home).commit(project, PATIENT, name="one more")


def commit_many(home: Path, project: str, count: int) -> None:
    """Commit `count` versions."""
    for _ in range(count):
        Workspace(home).commit(project, PATIENT, name="one of many")


def with_small_files(home: Path, project: str) -> None:
    """Commit a version larger than a file may be; the exit code says whether that was told as a full disk."""
    ws = Workspace(home)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        ws.commit(project, mlp((4, 400, 400, 3)), name="too large")
    except DiskFullError as error:
        raise SystemExit(0 if "version 'too large' could not be written" in str(error) else 1) from None
    raise SystemExit(2)


def corrupt(store: Store) -> list[str]:
    """What is wrong in a workspace: rows without complete folders, folders without rows, staging left behind."""
    ws = Workspace(store.home)
    found = [str(path) for path in [*(ws.home / "staging").iterdir(), *(ws.home / "trash").iterdir()]]
    known = set()
    for project in ws.projects():
        for version in ws.versions(project.id):
            known.add(version.id)
            ws.verify(version.id)
            ws.model(version.id)
    return found + [path.name for path in (ws.home / "versions").iterdir() if path.name not in known]
