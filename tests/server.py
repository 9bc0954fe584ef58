"""A real server on the loopback: `with serving(home, logs) as running:` starts the app as an operator would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from surgery.workspace import Workspace
from tests.patience import SECONDS

ROOT = Path(__file__).parents[1]


@dataclass
class Server:
    """One running app: its address, its workspace folder, its process, what it has written."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it without a warning, as a crash would; once it is gone this does nothing."""
        self.process.kill()
        self.process.wait()


STARTS = {
    "streamlit": ("-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port"),
    "command": ("-c", "from surgery.cli import main; raise SystemExit(main())", "--no-browser", "--port"),
    "uvicorn": ("-m", "uvicorn", "app:server", "--app-dir", str(ROOT), "--port"),
}


@contextmanager
def serving(
    home: Path, logs: Path, *options: str, folder: Path = ROOT, start: str = "streamlit", **environment: str
) -> Iterator[Server]:
    """The app on a workspace and a free port of the loopback, ended at the end; options are those of the start.

    folder: where it is started, and where Streamlit looks for secrets too. start: one of `STARTS`.
    """
    port = free_port()
    log = logs / f"server-{port}.log"
    app = [sys.executable, *STARTS[start], str(port), *options]
    given = {"SURGERY_HOME": str(home), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **environment}
    inherited = {name: value for name, value in os.environ.items() if name not in ("SURGERY_TOKEN", "SURGERY_HOSTS")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            app, cwd=folder, env={**inherited, **given}, stdout=out, stderr=out, start_new_session=True
        )
    running = Server(f"http://127.0.0.1:{port}", home, process, log)
    try:
        wait_until_it_answers(running)
        yield running
    finally:
        running.kill()


def used_workspace(home: Path) -> Path:
    """A workspace in which something has happened: the finished sample is not installed into it."""
    Workspace(home).record("opened by a test")
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(server: Server) -> None:
    """Wait until it says that it is ready, or that a visitor must log in."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=SECONDS) as answer:
                if answer.status == 200:
                    return
        except urllib.error.HTTPError as refused:
            with refused:
                if refused.code == 401:
                    return
        except OSError:
            assert server.process.poll() is None, f"the server has ended: {server.log.read_text()}"
            assert time.monotonic() < end, "the server does not answer"
        time.sleep(0.1)
