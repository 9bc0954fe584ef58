"""A language model in the browser: read what it writes, compress it, read what it writes now, undo."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

import sample_models
from surgery.network import store
from surgery.network.size import bytes_of
from surgery.workspace import Workspace
from tests.browser.conftest import Server, opening, settle
from tests.browser.desk import SLOW, Desk

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("texts")]
GOAL = "&operation=Make it smaller: Compress to few bits"


@pytest.fixture(scope="module")
def desk(shared: Server, chromium: Browser) -> Iterator[Desk]:
    """The shift reports."""
    ws, name = Workspace(shared.home), "shift_reports"
    project = ws.create_project("Reports")
    ws.set_tolerance(project.id, drop=100, class_drop=100)  # every result becomes current
    ws.add_dataset(project.id, "Reports", lambda folder: sample_models.make_data(name, folder))
    original = ws.commit(project.id, store.load(sample_models.model_folder(name)), name="Original")
    with opening(chromium, shared.url) as page:
        yield Desk(page, ws, shared.url, project, original)


def test_a_language_model_is_compressed_and_read_before_and_after(desk: Desk) -> None:
    page = desk.page
    desk.open("change", f"&version={desk.original.id}{GOAL}")
    expect(page.get_by_text(re.compile("752 validation samples guard it"))).to_be_visible(timeout=SLOW)
    page.get_by_text("At most (kB)").first.click()
    for name, value in (("At most (kB)", "70"), ("Epochs that learn bits", "0.3"), ("Epochs with bits held", "0.2")):
        field = page.get_by_role("spinbutton", name=name)
        field.fill(value)
        field.press("Tab")
        settle(page)
    page.get_by_role("button", name="Compress to 70.0 kB").click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    assert made.parent == desk.original.id
    assert bytes_of(desk.ws.model(made.id)) <= 70_000
    settle(page)
    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text(re.compile(r"Loss per character 0\.\d+ nats → 0\.\d+ nats"))).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("What it writes")).to_be_visible(timeout=SLOW)
    receipt = desk.ws.receipt(made.id)
    assert receipt is not None
    written = page.locator("[data-written]")
    expect(written).to_have_count(2 * len(receipt["texts"]))
    assert receipt["texts"][0]["after"][:40].strip() in written.nth(1).inner_text()
    desk.undo()
