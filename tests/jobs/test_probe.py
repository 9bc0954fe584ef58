"""The probe: found, started, asked, refused, killed, ended. Most tests serve a pretended oracle from a thread."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from surgery.children import Identity, born
from surgery.data.dataset import Dataset
from surgery.errors import DeviceMemoryError, JobError, NotFoundError, SelectionError
from surgery.jobs import probe, probe_link
from surgery.jobs.probe_link import CARD, Card, receive
from surgery.jobs.probe_server import Question, Server
from surgery.jobs.whatif import WhatIf
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from surgery.workspace import Workspace
from tests.patience import SECONDS, until


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, pico_table: Dataset) -> Iterator[tuple[Workspace, str, str]]:
    """A workspace with an MLP on the pico table: (workspace, version id, dataset id)."""
    torch.manual_seed(0)
    architecture = Architecture("mlp", {"sizes": [4, 8, 3]})
    module = build(architecture).eval()
    mean, std = pico_table.statistics()
    index, support = trace(module, torch.randn(2, 4))
    spec = InputSpec("table", (4,), mean, std)
    model = Model(module, architecture, spec, "classification", pico_table.classes, index, support)
    ws = Workspace(tmp_path_factory.mktemp("home"))
    project = ws.create_project("Pico")

    def copied(folder: Path) -> Dataset:
        shutil.copytree(pico_table.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    dataset = ws.add_dataset(project.id, "boxes", copied)
    version = ws.commit(project.id, model, name="Original")
    yield ws, version.id, dataset.id
    probe.stop(ws, version.id, dataset.id)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_real_probe_answers_refuses_and_comes_back(
    opened: tuple[Workspace, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, version, dataset = opened
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    question = {"what": "whatif", "remove": [0, 3], "fill": "mean"}
    answer = probe.ask(ws, version, dataset, question)
    direct = WhatIf.open(ws, version, dataset).answer(question)
    for key in direct.keys() - {"seconds"}:
        assert answer[key] == direct[key], key

    folder = probe.place(ws, version, dataset, "cpu")
    card = Card.of(folder)
    assert card is not None and probe.ask(ws, version, dataset, {"what": "ping"})["pid"] == card.pid
    if hasattr(os, "nice"):
        assert psutil.Process(card.pid).nice() > psutil.Process().nice()
    cores = os.cpu_count() or 1
    assert int(psutil.Process(card.pid).environ()["OMP_NUM_THREADS"]) == max(1, cores // 2)
    with pytest.raises(SelectionError, match="There is no neuron 400: this version has neurons 0 to 10"):
        probe.ask(ws, version, dataset, {"what": "whatif", "remove": [400]})
    plan = {"operation": "prune", "parameters": {"remove": list(range(8))}}
    with pytest.raises(SelectionError, match="removes all 8 neurons of layer '0'"):
        probe.ask(ws, version, dataset, {"what": "preview", "plan": plan})

    os.kill(card.pid, signal.SIGKILL)  # the next question starts another one
    again = probe.ask(ws, version, dataset, question)
    assert again["rows"] == answer["rows"]
    second = Card.of(folder)
    assert second is not None and second.pid != card.pid

    assert probe.stop(ws, version, dataset)
    assert gone(second.pid) and not (folder / CARD).exists() and not Path(second.address).exists()
    assert not probe.stop(ws, version, dataset)
    assert [v.id for v in ws.versions(ws.projects()[0].id)] == [version]


def test_asking_imports_no_torch() -> None:
    code = "import sys, surgery.jobs.probe; print([m for m in ('torch', 'sklearn', 'umap') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_unknown_names_start_nothing(opened: tuple[Workspace, str, str]) -> None:
    ws, version, dataset = opened
    with pytest.raises(NotFoundError, match="There is no version 'nowhere'"):
        probe.ask(ws, "nowhere", dataset, {"what": "ping"})
    with pytest.raises(NotFoundError, match="There is no dataset 'nowhere'"):
        probe.ask(ws, version, "nowhere", {"what": "ping"})


def test_a_probe_that_cannot_start_shows_the_end_of_its_log(
    opened: tuple[Workspace, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    ws, version, dataset = opened
    with pytest.raises(JobError, match=r"could not start\. Its log ends: no such luck"):
        probe.ask(ws, version, dataset, {"what": "ping"}, device="sim0")


class Echo:
    """An oracle that gives the question back, or what it is told to."""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        match request["what"]:
            case "select":
                raise SelectionError("Too many.", "Take fewer.")
            case "crash":
                raise ZeroDivisionError("by zero")
            case "memory":
                raise MemoryError
            case "sleep":
                time.sleep(request["seconds"])
        return {"echo": dict(request)}


@contextmanager
def serving(folder: Path, oracle: Callable[[], Any] = Echo, idle: float = 60.0) -> Iterator[Card]:
    """A server in a thread, stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, oracle, idle=idle)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: (folder / CARD).exists())
    card = Card(**json.loads((folder / CARD).read_text()))
    try:
        yield card
    finally:
        server.questions.put(None)
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def ws(tmp_path: Path) -> SimpleNamespace:
    """As much of a workspace as asking a living probe needs."""
    return SimpleNamespace(home=tmp_path)


def ask(ws: Any, what: str, timeout: float = 10.0, **more: Any) -> dict[str, Any]:
    return probe.ask(ws, "v", "d", {"what": what, **more}, timeout=timeout)


def test_only_the_owner_can_read_the_card_and_reach_the_socket(tmp_path: Path) -> None:
    with serving(tmp_path) as card:
        assert (tmp_path / CARD).stat().st_mode & 0o777 == 0o600
        assert Path(card.address).parent.stat().st_mode & 0o777 == 0o700
        with pytest.raises(AuthenticationError):
            Client(card.address, authkey=b"guess")
        with card.connect():
            pass  # one that says nothing
        assert probe._exchange(card, {"what": "hello"}, 5) == {"echo": {"what": "hello"}}
    assert not Path(card.address).parent.exists()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "hit",))

    with serving(tmp_path) as card:
        with card.connect() as connection:
            connection.send(Evil())
            assert "was sent no question" in receive(connection)["error"]["what"]
        with card.connect() as connection:
            connection.send_bytes(b"[1, 2]")
            assert "a message is a JSON object" in receive(connection)["error"]["what"]
    assert not (tmp_path / "hit").exists()


def test_errors_keep_their_class_and_the_probe_lives_on(ws: Any) -> None:
    with serving(probe.place(ws, "v", "d", "cpu")):
        with pytest.raises(SelectionError, match=r"Too many\. Take fewer\.") as caught:
            ask(ws, "select")
        assert caught.value.fix == "Take fewer."
        with pytest.raises(JobError, match="A fault in Model Surgery stopped the work while answering 'crash'"):
            ask(ws, "crash")
        with pytest.raises(JobError, match="ran out of memory"):
            ask(ws, "memory")
        assert ask(ws, "fine")["echo"] == {"what": "fine"}


def test_a_slow_answer_is_not_waited_for_and_a_ping_is_answered_meanwhile(ws: Any) -> None:
    with serving(probe.place(ws, "v", "d", "cpu")):
        with pytest.raises(JobError, match="did not answer within 0 s"):
            ask(ws, "sleep", seconds=2.0, timeout=0.2)
        assert ask(ws, "ping", timeout=SECONDS)["state"] == "ready"


def test_a_ping_while_warming_up(ws: Any) -> None:
    warm = threading.Event()

    def slow() -> Echo:
        warm.wait(10)
        return Echo()

    with serving(probe.place(ws, "v", "d", "cpu"), slow):
        assert ask(ws, "ping")["state"] == "warming"
        warm.set()
        assert ask(ws, "hello") == {"echo": {"what": "hello"}}


def test_a_probe_that_cannot_warm_up_says_why_and_ends(ws: Any) -> None:
    def refuse() -> Echo:
        raise SelectionError("The model is broken.", "Import it again.")

    folder = probe.place(ws, "v", "d", "cpu")
    with serving(folder, refuse):
        with pytest.raises(SelectionError, match=r"The model is broken\. Import it again\."):
            ask(ws, "hello")
        until(lambda: not (folder / CARD).exists())


def test_it_ends_when_nobody_asks(tmp_path: Path) -> None:
    with serving(tmp_path, idle=0.1):
        until(lambda: not (tmp_path / CARD).exists())


def test_a_second_probe_leaves_the_place_to_the_first(tmp_path: Path) -> None:
    with serving(tmp_path) as card:
        Server(tmp_path, lambda: pytest.fail("warmed up"), idle=60).run()
        assert Card.of(tmp_path) == card


def test_the_card_of_a_dead_probe_is_replaced(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    dead = Card("nowhere", "00", child.pid, born(child.pid))
    child.wait()
    assert dead.publish(tmp_path)
    assert Card.of(tmp_path) is None
    with serving(tmp_path):
        until(lambda: Card.of(tmp_path) is not None)


def test_idle_probes_are_stopped_by_age(ws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_end", lambda card: None)  # this process serves them
    first, second = probe.place(ws, "v", "a", "cpu"), probe.place(ws, "v", "b", "cpu")
    with serving(first), serving(second):
        time.sleep(2.0)
        probe._exchange(Card.of(second), {"what": "hello"}, SECONDS)
        assert probe.stop_idle(ws, seconds=1.9) == 1
        until(lambda: not (first / CARD).exists())
        assert (second / CARD).exists()
        assert probe.stop_idle(ws, seconds=100) == 0


def test_a_new_probe_ends_the_one_that_waited_longest(ws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_end", lambda card: None)
    monkeypatch.setattr(probe, "LIVE", 2)
    first, second = probe.place(ws, "v", "a", "cpu"), probe.place(ws, "v", "b", "cpu")
    with serving(first), serving(second):
        time.sleep(0.1)
        probe._exchange(Card.of(first), {"what": "hello"}, SECONDS)
        probe._make_room(ws)
        until(lambda: not (second / CARD).exists())
        assert (first / CARD).exists()


ASK = """
import sys
from pathlib import Path
from surgery.jobs import probe
from surgery.jobs.probe_link import Card
print(probe._exchange(Card.of(Path(sys.argv[1])), {"what": "hello"}, 10), flush=True)
sys.stdin.read()
"""
SERVE = """
import sys
from pathlib import Path
from surgery.jobs import probe
from surgery.workspace import Workspace
home, version, dataset = sys.argv[1:]
print(probe.ask(Workspace(Path(home)), version, dataset, {"what": "ping"})["pid"], flush=True)
sys.stdin.read()
"""
DIE = """
import os, sys, tempfile
from pathlib import Path
from surgery.jobs.probe_link import listening
tempfile.tempdir = sys.argv[2]
with listening() as (_, card):
    card.publish(Path(sys.argv[1]))
    os.kill(os.getpid(), 9)
"""


def started(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_probe_ends_when_all_who_asked_are_gone(tmp_path: Path) -> None:
    server = Server(tmp_path, Echo, idle=60)
    server.end_with_askers(lambda: pytest.fail("nothing is being answered"), every=0.02)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: (tmp_path / CARD).exists())
    first, second = started(ASK, str(tmp_path)), started(ASK, str(tmp_path))
    for asker in (first, second):
        assert asker.stdout is not None and "hello" in asker.stdout.readline()
    assert {one.pid for one in server.askers} == {first.pid, second.pid}
    killed(first)
    time.sleep(0.2)
    assert thread.is_alive() and not server.abandoned(), "one who asked still lives"
    killed(second)
    thread.join(SECONDS)
    assert not thread.is_alive() and not (tmp_path / CARD).exists()


def test_a_probe_that_computes_for_nobody_is_ended_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery.jobs.probe_server.FAREWELL", 0.05)
    release, left = threading.Event(), threading.Event()

    class Slow:
        def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
            release.wait(10)
            return {}

    server = Server(tmp_path, Slow, idle=60)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: (tmp_path / CARD).exists())
    card = Card.of(tmp_path)
    assert card is not None
    server.askers[Identity(2**22 - 1, 1.0)] = time.monotonic()
    server.questions.put(Question({"what": "hello"}))
    server.end_with_askers(left.set, every=0.02)
    assert left.wait(10) and not (tmp_path / CARD).exists() and not Path(card.address).parent.exists()
    Path(card.address).parent.mkdir()  # here the process goes on, and closes its socket in order
    Path(card.address).touch()
    release.set()
    thread.join(SECONDS)


def test_a_real_probe_ends_with_the_server_that_started_it(opened: tuple[Workspace, str, str]) -> None:
    ws, version, dataset = opened
    probe.stop(ws, version, dataset)
    server = started(SERVE, str(ws.home), version, dataset)
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    folder = probe.place(ws, version, dataset, "cpu")
    card = Card.of(folder)
    assert card is not None and card.pid == pid
    assert psutil.Process(pid).environ()["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    killed(server)
    until(lambda: gone(pid), "the end of the probe")
    assert not (folder / CARD).exists() and not Path(card.address).parent.exists()


START = """
import sys
from pathlib import Path
from surgery.jobs import probe
from surgery.workspace import Workspace
home, version, dataset = sys.argv[1:]
ws = Workspace(Path(home))
print(probe._start(ws, probe.place(ws, version, dataset, "cpu"), version, dataset, "cpu").pid, flush=True)
sys.stdin.read()
"""


def test_a_probe_whose_starter_died_before_it_asked_ends_too(opened: tuple[Workspace, str, str]) -> None:
    ws, version, dataset = opened
    probe.stop(ws, version, dataset)
    server = started(START, str(ws.home), version, dataset)
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    killed(server)
    until(lambda: gone(pid), "the end of the probe")


def test_what_a_killed_probe_left_goes_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_link, "FRESH", 0.0)
    place, short = tmp_path / "probes" / "v-d-cpu", Path(tempfile.mkdtemp(prefix="t"))
    place.mkdir(parents=True)
    killed_one = started(DIE, str(place), str(short))
    killed_one.communicate()
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    assert (place / CARD).exists() and len(list(short.glob("sg-*"))) == 1
    with serving(tmp_path / "probes" / "living") as card:
        probe_link.sweep(tmp_path / "probes")
        assert not (place / CARD).exists() and Card.of(tmp_path / "probes" / "living") == card
        assert list(short.glob("sg-*")) == [Path(card.address).parent]
    short.rmdir()


def test_a_probe_beyond_its_memory_limit_says_so_once(
    opened: tuple[Workspace, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, version, dataset = opened
    probe.stop(ws, version, dataset)
    monkeypatch.setenv("SURGERY_MEMORY", "100MB")  # less than torch alone takes
    with pytest.raises(DeviceMemoryError, match=r"more than its memory limit of 0\.1 GB"):
        probe.ask(ws, version, dataset, {"what": "whatif", "remove": [0]})
    assert not (probe.place(ws, version, dataset, "cpu") / CARD).exists()
