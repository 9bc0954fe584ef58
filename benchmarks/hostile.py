"""What hostile files, configurations, plans and requests do to the product: nothing, but for a sentence.

At least 500 in the full form, made by generators from a seed: model files and configurations through the reading child
and everything that an import calls, data files through the limited child and the import, spoilt tasks through the
submission of jobs, requests and websockets at a real server with a token and one without. An audit hook watches the
process that reads model files and configurations for files opened elsewhere, programs, connections and planted code; of
data files the folder is compared, of requests "opened elsewhere" counts those that were served.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from surgery.workspace import Workspace
from tests import conftest
from tests.hostile import data_generators, model_generators, test_data_limits, test_plans
from tests.hostile.test_hostile_models import SLOW, Reader
from tests.server import Server, serving, used_workspace
from tests.visitor import STREAM, ask, refusal

SEED = 22
HANG = 30.0  # seconds
WAITING = 5.0  # seconds that a stranger waits for an answer
TOKEN = "0123456789abcdef-right"
SEEDS, TASKS, REQUESTS = 6, 150, 150  # of each family; of all tasks; at each server
QUICK_FAMILIES, QUICK_TASKS, QUICK_REQUESTS = 6, 30, 25  # every so-manieth family; as above
CLOSED = {400, 401, 403, 404, 405, 408, 413, 421, 429, 431}  # what a stranger may be answered
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PATHS = (
    *("/", "/versions", "/_stcore/health", "/_stcore/host-config", "/_stcore/upload_file/a/b", "/media/a.png"),
    *("/component/x/index.html", "/static/js/main.js", STREAM, "/auth/login", "/app/static/x", "/../../etc/passwd"),
    *("/%2e%2e/%2e%2e/etc/passwd", "/_stcore/../enter", "//evil.example/", "/enter/../_stcore/health", "/metrics"),
)
FOREIGN = ("evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.2:80")


@dataclass
class Counts:
    """What one family did, in counts that should all be 0, and the longest time of one."""

    made: int = 0
    executed: int = 0
    opened_elsewhere: int = 0
    raw_errors: int = 0
    hangs: int = 0
    left_waiting: int = 0  # strangers whose malformed request got no answer, while others were served
    seconds: float = 0.0
    said: list[str] = field(default_factory=list)

    def took(self, seconds: float) -> None:
        """Note how long one took."""
        self.made += 1
        self.seconds = max(self.seconds, seconds)
        self.hangs += seconds > HANG

    def raw(self, what: str) -> None:
        """Note something that no user should see."""
        self.raw_errors += 1
        self.said.append(what[:200])


def measure(*, quick: bool) -> dict[str, Any]:
    """How much was made, and what it did in all; the largest growth of a server's own memory in MB."""
    logging.disable(logging.CRITICAL)
    rows: dict[str, Counts] = {}
    growth = 0.0
    try:
        with tempfile.TemporaryDirectory(prefix="bench-hostile-") as folder:
            home = Path(folder)
            rows |= dict(_models(home / "models", quick))
            found, growth = _data(home / "data", quick)
            rows |= found
            rows["tasks: every field of every kind"] = _tasks(home / "tasks", QUICK_TASKS if quick else TASKS)
            for name, more in (("a server with a token", {"SURGERY_TOKEN": TOKEN}), ("a server without one", {})):
                counts, grown = _requests(home / name.split()[-1], more, QUICK_REQUESTS if quick else REQUESTS)
                rows[f"requests: {name}"] = counts
                growth = max(growth, grown)
    finally:
        logging.disable(logging.NOTSET)
    return {
        "made": sum(one.made for one in rows.values()),
        "executed": sum(one.executed for one in rows.values()),
        "opened_elsewhere": sum(one.opened_elsewhere for one in rows.values()),
        "raw_errors": sum(one.raw_errors for one in rows.values()),
        "hangs": sum(one.hangs for one in rows.values()),
        "memory_growth_mb": growth,
        "table": [_row(name, counts) for name, counts in rows.items()],
    }


def _row(name: str, counts: Counts) -> dict[str, Any]:
    return {
        "family": name,
        "made": counts.made,
        "executed": counts.executed,
        "opened elsewhere": counts.opened_elsewhere,
        "raw errors": counts.raw_errors,
        "left waiting": counts.left_waiting,
        "longest (s)": counts.seconds,
        "first of what went wrong": counts.said[0] if counts.said else "",
    }


def _chosen(families: list[str], quick: bool) -> list[str]:
    return families[:: QUICK_FAMILIES if quick else 1]


def _models(folder: Path, quick: bool) -> Iterator[tuple[str, Counts]]:
    """Model files and configurations, in a process that watches itself."""
    folder.mkdir()
    reader = Reader(folder / "upload")
    try:
        for family in _chosen(sorted(model_generators.FAMILIES), quick):
            counts = Counts()
            for seed in range(1 if quick else SEEDS // 2 if family in SLOW else SEEDS):
                end = reader.outcomes([["file", family, SEED + seed]])[0]
                counts.took(end["seconds"])
                counts.executed += bool(end["ran"])
                counts.opened_elsewhere += bool(end["events"])
                counts.said += end["events"][:1]
                if end["end"] == "wrong":
                    counts.raw(end["said"])
            yield f"model, {family}", counts
    finally:
        reader.process.communicate(timeout=60)


def _data(folder: Path, quick: bool) -> tuple[dict[str, Counts], float]:
    """Data files, as the page and the job read them; and the growth of this process's memory in MB."""
    rows: dict[str, Counts] = {}
    growth = 0
    for family in _chosen(sorted(data_generators.FAMILIES), quick):
        counts = rows[f"data, {family.replace('_', ' ')}"] = Counts()
        for seed in range(1 if quick else SEEDS // 2):
            inside = folder / f"{family}-{seed}"
            inside.mkdir(parents=True)
            file = data_generators.FAMILIES[family](random.Random(f"{SEED} {family} {seed}"), inside)
            start = time.monotonic()
            with test_data_limits.watched() as peak:
                _attempt(lambda file=file, inside=inside: test_data_limits.attempt(file, inside / "out"), counts)
            counts.took(time.monotonic() - start)
            growth = max(growth, peak.own)
            counts.opened_elsewhere += bool(_listed(inside) - {file.name, "out"})
    return rows, growth / 1e6


def _attempt(act: Callable[[], object], counts: Counts) -> None:
    """Do something; what comes out besides a refusal in words is a raw error."""
    try:
        act()
    except Exception as error:
        logging.exception("a raw error")
        counts.raw(f"{type(error).__name__}: {error}")


def _listed(folder: Path) -> set[str]:
    """The entries of a folder."""
    return {path.name for path in folder.iterdir()}


def _tasks(folder: Path, count: int) -> Counts:
    """Valid tasks of every kind and operation with one field spoilt."""
    folder.mkdir()
    os.environ.setdefault("SURGERY_DEVICES", "cpu")
    ws, counts, chance = Workspace(folder / "home"), Counts(), random.Random(SEED)
    data = {
        "images": conftest.drawn(folder / "images"),
        "more": conftest.drawn_more(folder / "more"),
        "table": conftest.boxed(folder / "table"),
        "targets": conftest.summed(folder / "targets"),
        "text": conftest.written(folder / "text"),
    }
    project, own = test_plans.furnish(ws, "Own", data)
    _, alien = test_plans.furnish(ws, "Other", data)
    ws.add_scan(own["cnn"], own["images"], {}, lambda made: (made / "scan").write_text(""))
    trashed = ws.commit(project, test_plans.digits(), name="Trashed", make_current=False)
    ws.trash_version(trashed.id)
    world = test_plans.World(
        ws, project, own, {**{f"alien {key}": id for key, id in alien.items()}, "trashed": trashed.id}
    )
    (folder / "file").write_text("x")
    given, bad = list(test_plans.tasks(own, folder / "file").values()), test_plans.poisons(world)
    for _ in range(count):
        task, value = chance.choice(given), chance.choice(bad)
        place = chance.choice(list(test_plans.places(task)))
        spoilt = test_plans.spoilt(task, place, lambda inside, key, value=value: inside.__setitem__(key, value))
        start = time.monotonic()
        _attempt(lambda spoilt=spoilt: test_plans.refused_or_accepted(world, spoilt), counts)
        counts.took(time.monotonic() - start)
    return counts


def _requests(folder: Path, more: dict[str, str], count: int) -> tuple[Counts, float]:
    """Requests and websockets of strangers; and the growth of the server's memory in MB."""
    folder.mkdir()
    counts, chance = Counts(), random.Random(f"{SEED} {sorted(more)}")
    with serving(used_workspace(folder / "home"), folder, **more) as server:
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        for _ in range(count):
            start = time.monotonic()
            _attempt(lambda: _request(server, chance, bool(more), counts), counts)
            counts.took(time.monotonic() - start)
        grown = (process.memory_info().rss - before) / 1e6
        if server.process.poll() is not None:
            counts.raw("the server has ended")
    return counts, grown


def _request(server: Server, chance: random.Random, locked: bool, counts: Counts) -> None:
    """One request that must not be served: without credentials, or under a foreign name."""
    own = f"127.0.0.1:{server.port}"
    foreign = chance.choice(FOREIGN).format(port=server.port)
    host = own if locked and chance.random() < 0.7 else foreign
    origin = chance.choice([None, f"http://{host}", "http://evil.example", "null"])
    if chance.random() < 0.2:
        status = refusal(server.port, host=host, **({"origin": origin} if origin else {}))
    else:
        headers = {"Host": host, **({"Origin": origin} if origin else {}), **_odd_headers(chance)}
        body = bytes(chance.choice([0, 10, 70_000, 3_000_000])) if chance.random() < 0.4 else None
        status = 400
        path, method = chance.choice(PATHS), chance.choice(METHODS)
        try:
            with suppress(ConnectionError):  # cut off while it still sends is an answer too
                status = ask(server.port, path, method, headers=headers, body=body, patience=WAITING).status
        except TimeoutError:  # an upgrade to a websocket that is none: the HTTP server waits for the rest of it
            ask(server.port, "/_stcore/health", patience=WAITING)
            counts.left_waiting += 1
    if status not in CLOSED:
        counts.opened_elsewhere += 1
        counts.said.append(f"{host} {origin} was answered {status}")


def _odd_headers(chance: random.Random) -> dict[str, str]:
    return chance.choice(
        [
            {},
            {"Cookie": "surgery_visitor_00000000=99999999999.00"},
            {"Cookie": "_streamlit_user=x; surgery=" + "a" * 3000},
            {"X-Forwarded-Host": "127.0.0.1", "X-Forwarded-For": "127.0.0.1"},
            {"Authorization": "Basic YTpi"},
            {"Accept": "text/html", "Sec-Fetch-Site": "cross-site"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        ]
    )
