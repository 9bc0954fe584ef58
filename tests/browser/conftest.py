"""A real server and a real Chromium: `shared` serves all tests, `server()` starts a fresh one, `tab(url)` opens it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, TimeoutError, expect, sync_playwright

from surgery.jobs import probe
from surgery.workspace import Workspace
from tests.patience import MILLISECONDS
from tests.server import Server, serving, used_workspace

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers of one's own: `server()` on a workspace that is not new, `server(home)` on a given one."""
    with ExitStack() as started:

        def start(home: Path | None = None, **environment: str) -> Server:
            home = home or used_workspace(tmp_path / "home")
            return started.enter_context(serving(home, tmp_path, **environment))

        yield start


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that need not be its first visitor; each makes a project of its own."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(used_workspace(folder / "home"), folder) as running:
        yield running
        probe.stop_idle(Workspace(running.home), seconds=0)


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
    with ExitStack() as opened:
        yield lambda url: opened.enter_context(opening(chromium, url))


@contextmanager
def opening(chromium: Browser, url: str) -> Iterator[Page]:
    """A page in a profile of its own, closed at the end."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(MILLISECONDS)
    expect.set_options(timeout=MILLISECONDS)  # the default, 5 s, is a claim about the machine
    try:
        page = context.new_page()
        page.goto(url)
        settle(page)
        yield page
    finally:
        context.close()


def settle(page: Page) -> None:
    """Wait until the script has run, the server is connected and nothing has failed."""
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=MILLISECONDS)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=MILLISECONDS)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def downloaded(page: Page, button: str | re.Pattern[str]) -> Path:
    """The file that a button gives; a click that meets a page being drawn anew is lost, and is made again."""
    for _ in range(40):
        settle(page)
        try:
            with page.expect_download(timeout=15_000) as download:
                page.get_by_role("button", name=button).click()
            return Path(download.value.path())
        except TimeoutError:
            continue
    raise AssertionError(f"{button} gives no file")


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
