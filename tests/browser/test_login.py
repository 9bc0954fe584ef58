"""The way in with a token, in a real browser: asked on a deep link, wrong and right, kept over a reload."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from surgery.workspace import Project, Workspace
from tests.browser.conftest import Server, settle
from tests.server import serving, used_workspace

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("login")]
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    with serving(used_workspace(folder / "home"), folder, SURGERY_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def secret(locked: Server) -> Project:
    return Workspace(locked.home).create_project("Secret project")


@pytest.fixture
def profile(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


def enter(page: Page, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Log in").click()


def test_a_deep_link_asks_first_and_leads_on(locked: Server, secret: Project, profile: BrowserContext) -> None:
    page = profile.new_page()
    wanted = f"{locked.url}/versions?project={secret.id}"
    page.goto(wanted)
    expect(page.get_by_label("Access token")).to_be_focused()
    assert "Secret project" not in page.content()

    enter(page, TOKEN)
    page.wait_for_url(wanted)
    settle(page)
    expect(page.get_by_text("Secret project").first).to_be_visible()

    page.reload()
    settle(page)
    expect(page.get_by_text("Secret project").first).to_be_visible()
    assert page.evaluate("document.cookie").count("surgery_visitor") == 0, "scripts do not see the cookie"
    another = profile.new_page()
    another.goto(f"{locked.url}/jobs?project={secret.id}")
    settle(another)


def test_a_wrong_token_is_refused_then_slowed_and_a_reload_asks_again(
    locked: Server, secret: Project, profile: BrowserContext
) -> None:
    page = profile.new_page()
    page.goto(f"{locked.url}/versions?project={secret.id}")
    enter(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("Wrong access token. Check it and try again.")
    for _ in range(10):  # the wait doubles; on a slow machine an early attempt may come late enough
        enter(page, "wrong")
        if "Too many" in page.get_by_role("alert").inner_text():
            break
    expect(page.get_by_role("alert")).to_contain_text("Too many wrong tokens. Try again in")
    page.goto(f"{locked.url}/versions?project={secret.id}")
    expect(page.get_by_label("Access token")).to_be_visible()
    assert "Secret project" not in page.content()


@pytest.fixture
def elsewhere() -> Iterator[Callable[[str], str]]:
    """A page of another site with a link: `elsewhere(target)` is its address."""
    targets: list[str] = []

    def answer(site: BaseHTTPRequestHandler) -> None:
        site.send_response(200)
        site.send_header("Content-Type", "text/html")
        site.end_headers()
        site.wfile.write(f'<a href="{targets[0]}">follow</a>'.encode())

    quiet = {"do_GET": answer, "log_message": lambda *_words: None}
    site = ThreadingHTTPServer(("127.0.0.1", 0), type("Site", (BaseHTTPRequestHandler,), quiet))
    threading.Thread(target=site.serve_forever, daemon=True).start()

    def address(target: str) -> str:
        targets.append(target)
        return f"http://localhost:{site.server_port}/"

    yield address
    site.shutdown()
    site.server_close()


def test_a_link_from_another_site_finds_who_is_logged_in(
    locked: Server, secret: Project, profile: BrowserContext, elsewhere: Callable[[str], str], tmp_path: Path
) -> None:
    with serving(locked.home, tmp_path, SURGERY_TOKEN=TOKEN) as fresh:
        page = profile.new_page()
        wanted = f"{fresh.url}/versions?project={secret.id}"
        page.goto(wanted)
        enter(page, TOKEN)
        settle(page)
        page.goto(elsewhere(wanted))
        page.get_by_text("follow").click()
        settle(page)
        expect(page.get_by_text("Secret project").first).to_be_visible()
        assert page.url == wanted


def test_a_link_from_another_site_asks_a_stranger_once(
    locked: Server, secret: Project, profile: BrowserContext, elsewhere: Callable[[str], str]
) -> None:
    page, loads = profile.new_page(), []
    page.goto(elsewhere(f"{locked.url}/versions?project={secret.id}"))
    page.on("load", lambda _: loads.append(page.url))
    page.get_by_text("follow").click()
    page.wait_for_url("**/versions?project=*")
    expect(page.get_by_label("Access token")).to_be_visible()
    page.wait_for_timeout(1500)
    assert len(loads) <= 2
