"""What the browser may load and reach: every page works under the policy, and the policy is in force."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from surgery.data.dataset import Dataset
from surgery.ui import shell
from surgery.workspace import Workspace
from tests.browser import mouse
from tests.browser.conftest import Server, opening, settle
from tests.pages.patients import Patient, admit
from tests.patience import MILLISECONDS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("policy")]
SLOW = MILLISECONDS
REFUSED = re.compile(r"content.security.policy|refused to|blocked", re.IGNORECASE)


@pytest.fixture(scope="module")
def patient(shared: Server, tmp_path_factory: pytest.TempPathFactory, pico_images: Dataset) -> Patient:
    made = admit(Workspace(shared.home), pico_images)
    made.operate([0, 1])
    return made


@pytest.fixture(scope="module")
def watched(shared: Server, chromium: Browser, patient: Patient) -> Iterator[tuple[Page, list[str]]]:
    """A tab, and what its console says against the policy."""
    refused: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if REFUSED.search(message.text):
            refused.append(message.text)

    with opening(chromium, f"{shared.url}/?project={patient.project.id}") as page:
        page.on("console", hear)
        page.on("pageerror", lambda error: refused.append(str(error)))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', "
            "broken => console.error('blocked', broken.violatedDirective, broken.blockedURI))"
        )
        yield page, refused


@pytest.mark.parametrize("name", [entry.name for entry in shell.entries()])
def test_every_page_works_under_the_policy(
    shared: Server, watched: tuple[Page, list[str]], patient: Patient, name: str
) -> None:
    page, refused = watched
    path = "" if name == "home" else name
    page.goto(f"{shared.url}/{path}?project={patient.project.id}&version={patient.version.id}")
    settle(page)
    expect(page.get_by_test_id("stMainBlockContainer")).to_be_visible()
    if name in ("neurons", "compare"):
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=SLOW)
    page.wait_for_load_state("networkidle")
    assert refused == []


def test_the_map_is_drawn_and_clicked_under_the_policy(
    shared: Server, watched: tuple[Page, list[str]], patient: Patient
) -> None:
    page, refused = watched
    page.goto(f"{shared.url}/neurons?project={patient.project.id}&version={patient.version.id}")
    settle(page)
    mouse.surely(lambda: mouse.click(page, 3), page.get_by_text("1 neuron chosen"))
    assert refused == []


def test_the_policy_is_in_force(shared: Server, watched: tuple[Page, list[str]]) -> None:
    page, refused = watched
    settle(page)
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    assert page.evaluate("window.ran") is None
    assert page.evaluate("fetch('http://localhost:9/').then(() => 'sent', () => 'kept')") == "kept"
    assert any("script-src" in line for line in refused)
    assert any("connect-src" in line for line in refused)
    refused.clear()
