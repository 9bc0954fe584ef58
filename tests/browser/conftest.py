"""A real server on a fresh workspace and a real Chromium: `server()` starts one, `tab(url)` opens a page on it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("SURGERY_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 60.0  # seconds for a server to answer and for a page to come to rest


@dataclass
class Server:
    """One running app: its address, its workspace folder, its process."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it without a warning, as a crash would."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers: `server()` on a workspace that is not new, `server(home=…)` on a given one."""
    started: list[Server] = []

    def start(home: Path | None = None, **environment: str) -> Server:
        home = home or _used_workspace(tmp_path / "home")
        port = _free_port()
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
        log = (tmp_path / f"server-{port}.log").open("wb")
        given = {"SURGERY_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
        with log:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **given}, stdout=log, stderr=log, start_new_session=True
            )
        running = Server(f"http://127.0.0.1:{port}", home, process)
        started.append(running)
        _wait_until_it_answers(running)
        return running

    yield start
    for running in started:
        running.kill()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One Chromium for all tests; every tab has a profile of its own."""
    if not Path(CHROMIUM).exists():
        reason = f"no Chromium at {CHROMIUM}: install it, or name one in SURGERY_CHROMIUM"
        assert not os.environ.get("SURGERY_REQUIRE_BROWSER"), reason
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Callable[[str], Page]]:
    """Open an address in a fresh profile, 1440×900, and wait until the page is at rest."""
    contexts = []

    def open_tab(url: str) -> Page:
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.goto(url)
        settle(page)
        return page

    yield open_tab
    for context in contexts:
        context.close()


def settle(page: Page) -> None:
    """Wait until the script has run, the server is connected and nothing has failed."""
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=PATIENCE * 1000)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE * 1000)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def menu(page: Page) -> dict[str, list[str]]:
    """The menu as it is shown: pages by the name of their group."""
    entries = page.get_by_test_id("stSidebarNavItems").locator(
        "[data-testid=stNavSectionHeader], [data-testid=stSidebarNavLink]"
    )
    found = [
        (entry.get_attribute("data-testid") == "stNavSectionHeader", entry.inner_text().split("\n")[-1].strip())
        for entry in entries.all()
    ]
    groups: dict[str, list[str]] = {}
    group = ""
    for is_group, text in found:
        if is_group:
            group = text
            groups[group] = []
        else:
            groups.setdefault(group, []).append(text)
    return groups


def _used_workspace(home: Path) -> Path:
    """A workspace in which something has happened: the finished sample is not installed into it."""
    from surgery.workspace import Workspace

    Workspace(home).record("opened by a test")
    return home


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            assert server.process.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.1)
