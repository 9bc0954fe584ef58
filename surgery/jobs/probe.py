"""Instant answers about a model: what-if, previews. Pages ask; a warm process per model and dataset answers.

    probe.ask(ws, version, dataset, {"what": "whatif", "remove": [3, 17], "fill": "mean"})

The process is started by the first question, ends after ten minutes without one, and writes nothing but its log.
Asking imports no torch.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from multiprocessing import AuthenticationError
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import psutil

from surgery.children import Identity, environment, me
from surgery.errors import JobError
from surgery.jobs import memory
from surgery.jobs.devices import only
from surgery.jobs.probe_link import Card, raised, receive, send, signed, sweep
from surgery.workspace import Workspace

if TYPE_CHECKING:
    from surgery.jobs.probe_server import Oracle

START = 60.0  # seconds within which a new probe must listen; it does so before it imports torch
ANSWER = 120.0  # seconds for an answer, warming up included
GRACE = 2.0  # seconds from asking a probe to end to killing it
LIVE = 3  # probes at a time: each holds a model and its frontiers in memory
THREADS = max(1, (os.cpu_count() or 1) // 2)  # on all cores, beside a job on all cores, they mostly wait for each other
TAIL = 2_000  # characters of a log that an error quotes

_children: list[subprocess.Popen[bytes]] = []  # kept to be reaped


class _GoneError(Exception):
    """The probe ended while it was asked."""


def ask(
    ws: Workspace,
    version_id: str,
    dataset_id: str,
    request: Mapping[str, Any],
    *,
    device: str = "cpu",
    timeout: float = ANSWER,
) -> dict[str, Any]:
    """Put one question to the probe of a version and a dataset, starting it if need be.

    request: {"what": "whatif", "remove": [ids], "fill": "mean" | "zero"}, {"what": "preview", "plan": {…}} or
        {"what": "ping"}; see surgery.jobs.whatif for the answers.
    timeout: seconds to wait for the answer.

    Raises:
        JobError: the probe cannot start, does not answer in time, or failed; with the end of its log.
        SurgeryError: what the question itself raised, in its own class.
    """
    folder = place(ws, version_id, dataset_id, device)
    deadline = time.monotonic() + timeout
    for _ in range(2):  # the probe may just be ending for lack of questions
        card = Card.of(folder) or _start(ws, folder, version_id, dataset_id, device)
        try:
            return raised(_exchange(card, request, deadline - time.monotonic()))
        except _GoneError:
            _end(card)
            if (limit := memory.limit_told(_log(folder).splitlines()[-3:])) is not None:  # another would do the same
                raise memory.over(limit) from None
    raise JobError(f"The what-if process ended unexpectedly. {tail(folder)}", "Try again.")


def stop(ws: Workspace, version_id: str, dataset_id: str, *, device: str = "cpu") -> bool:
    """End the probe of a version and a dataset; whether there was one."""
    return _stop(place(ws, version_id, dataset_id, device))


def stop_idle(ws: Workspace, *, seconds: float = 60.0) -> int:
    """End the probes that nobody has asked for `seconds`; how many."""
    idle = [folder for folder, waited in _waiting(ws) if waited >= seconds]
    return sum(_stop(folder) for folder in idle)


def place(ws: Workspace, version_id: str, dataset_id: str, device: str) -> Path:
    """The folder of a probe: its card and its log."""
    name = "-".join(re.sub(r"\W", "_", part) for part in (version_id, dataset_id, device))
    folder = ws.home / "probes" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def tail(folder: Path) -> str:
    """The end of a probe's log, for an error message."""
    text = _log(folder)
    return f"Its log ends: {text[-TAIL:]}" if text else "It left no log."


def _log(folder: Path) -> str:
    try:
        return (folder / "stderr.txt").read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _start(ws: Workspace, folder: Path, version_id: str, dataset_id: str, device: str) -> Card:
    """Start a probe and wait until one listens here, which may be somebody else's.

    Raises:
        NotFoundError: no such version or dataset. JobError: it ended or did not listen in time.
    """
    ws.version(version_id), ws.dataset_row(dataset_id)
    sweep(ws.home / "probes")
    _make_room(ws)
    names = ["--home", str(ws.home), "--version", version_id, "--dataset", dataset_id, "--device", device]
    names += ["--asker", str(me().pid), str(me().born)]
    with (folder / "stderr.txt").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "surgery.jobs.probe", *names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            env=environment(OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", str(THREADS))),
        )
    _reap()
    _children.append(child)
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if card := Card.of(folder):
            return card
        if child.poll():  # 0: another probe was quicker
            raise JobError(f"The what-if process could not start. {tail(folder)}", "Open the model again.")
        time.sleep(0.02)
    child.kill()
    raise JobError(f"The what-if process did not start within {START:.0f} s. {tail(folder)}", "Try again.")


def _exchange(card: Card, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """One question and its answer. In a thread, because connecting itself has no time limit.

    Raises:
        _GoneError: nobody is there. JobError: no answer in time.
    """
    answers: SimpleQueue[dict[str, Any] | Exception] = SimpleQueue()

    def talk() -> None:
        try:
            with card.connect() as connection:
                send(connection, signed(request))
                answers.put(receive(connection))
        except (OSError, EOFError, ValueError, AuthenticationError) as error:
            answers.put(error)

    Thread(target=talk, daemon=True).start()
    try:
        answer = answers.get(timeout=max(timeout, 0.0))
    except Empty:
        raise JobError(
            f"The what-if did not answer within {timeout:.0f} s.", "Ask again in a moment: the machine may be busy."
        ) from None
    if isinstance(answer, Exception):
        raise _GoneError from answer
    return answer


def _make_room(ws: Workspace) -> None:
    """End the probes that waited longest, so that with the next one at most LIVE are alive."""
    waiting = sorted(_waiting(ws), key=lambda pair: pair[1])
    for folder, _ in waiting[LIVE - 1 :]:
        _stop(folder)


def _waiting(ws: Workspace) -> list[tuple[Path, float]]:
    """The living probes and how long nobody has asked each, in seconds."""
    found = []
    for folder in (ws.home / "probes").glob("*"):
        if card := Card.of(folder):
            try:
                found.append((folder, float(_exchange(card, {"what": "ping"}, GRACE)["idle"])))
            except (_GoneError, JobError):
                found.append((folder, float("inf")))
    return found


def _stop(folder: Path) -> bool:
    card = Card.of(folder)
    if card is None:
        return False
    with suppress(_GoneError, JobError):  # one that hears nothing is ended below
        _exchange(card, {"what": "stop"}, GRACE)
    _end(card)
    return True


def _end(card: Card) -> None:
    """Wait until its process is gone, after a grace by force."""
    deadline = time.monotonic() + GRACE
    while card.living and time.monotonic() < deadline:
        time.sleep(0.02)
    if card.living:
        psutil.Process(card.pid).kill()
        psutil.wait_procs([psutil.Process(card.pid)], timeout=GRACE)
    _reap()


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def main() -> None:
    """Be the probe: `python -m surgery.jobs.probe --home … --version … --dataset … --device cpu`."""
    from surgery.jobs.probe_server import Server, settle

    parser = argparse.ArgumentParser(prog="surgery.jobs.probe", description=main.__doc__)
    parser.add_argument("--home", type=Path, help="the workspace (default: SURGERY_HOME)")
    parser.add_argument("--version", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--asker", nargs=2, help="process id and start time of who starts it")
    given = parser.parse_args()
    settle()
    ws = Workspace(given.home)
    limit = memory.limit_for("probe")

    def oracle() -> Oracle:
        with only(given.device) as device:
            from surgery.jobs.whatif import WhatIf

            return WhatIf.open(ws, given.version, given.dataset, device)

    server = Server(place(ws, given.version, given.dataset, given.device), oracle)
    if given.asker:
        server.asked_by(Identity(int(given.asker[0]), float(given.asker[1])))
    server.end_with_askers(partial(os._exit, 0))
    memory.Watch(limit, told=server.stop, end=lambda: server.end(partial(memory.end_at_once, limit))).start()
    server.run()


if __name__ == "__main__":
    main()
