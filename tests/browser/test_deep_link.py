"""A deep link as the very first request to a fresh server: menu and query as on every other day."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from surgery.workspace import Workspace
from tests.browser.conftest import Server, menu, settle
from tests.server import ROOT

pytestmark = pytest.mark.browser
MENU = {
    "Start": ["Home", "Model & data"],
    "Look": ["Neurons", "Slices", "Modules", "Similarity", "Must keep"],
    "Change": ["Change", "Jobs"],
    "Decide": ["Compare", "Versions"],
}


@pytest.mark.parametrize("path", ["versions", "model_data", "neurons", ""])
def test_the_first_request_may_be_a_deep_link(
    server: Callable[..., Server], tab: Callable[[str], Page], path: str
) -> None:
    running = server()
    ws = Workspace(running.home)
    wanted = ws.create_project("Wanted")
    ws.create_project("Newer")
    page = tab(f"{running.url}/{path}?project={wanted.id}")
    expect(page.get_by_text("Wanted").first).to_be_visible()
    assert menu(page) == MENU
    assert page.url == f"{running.url}/{path}?project={wanted.id}"


def test_the_names_of_files_are_never_the_menu() -> None:
    code = "import app; from streamlit.runtime.pages_manager import PagesManager as P; print(P.uses_pages_directory)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_the_menu_keeps_the_project(shared: Server, tab: Callable[[str], Page]) -> None:
    ws = Workspace(shared.home)
    wanted = ws.create_project("Wanted")
    ws.create_project("Newer")
    page = tab(f"{shared.url}/versions?project={wanted.id}")
    expect(page.get_by_text("Wanted").first).to_be_visible()
    page.get_by_test_id("stSidebarNav").get_by_text("Jobs").click()
    page.wait_for_url(f"**/jobs?project={wanted.id}")
    settle(page)
    expect(page.get_by_text("Wanted").first).to_be_visible()


def test_the_copied_link_opens_the_same_view(shared: Server, tab: Callable[[str], Page]) -> None:
    wanted = Workspace(shared.home).create_project("Wanted")
    page = tab(f"{shared.url}/versions?project={wanted.id}")
    page.get_by_role("button", name="Copy link").click()
    link = page.get_by_test_id("stCode").inner_text().strip()
    assert link == f"{shared.url}/versions?project={wanted.id}"
