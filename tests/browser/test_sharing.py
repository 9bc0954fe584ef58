"""Sharing in one browser tab: layers, shares for a budget, a refusal, a fleet, a stream that drifts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

import sample_models
from surgery.network import store
from surgery.workspace import Workspace
from tests.browser.conftest import Server, opening, settle
from tests.browser.desk import SLOW, Desk

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("sharing")]


@pytest.fixture(scope="module")
def desk(shared: Server, chromium: Browser) -> Iterator[Desk]:
    """The sample of three models, and its data out of focus."""
    ws, name = Workspace(shared.home), "inspection_line"
    project = ws.create_project("Sharing")
    data = ws.add_dataset(project.id, "Plates", lambda folder: sample_models.make_data(name, folder))
    original = ws.commit(project.id, store.load(sample_models.model_folder(name)), name="Original")
    for title, folder in sample_models.members(name).items():
        ws.commit(project.id, store.load(folder), name=title, make_current=False)
    own = ws.dataset(data.id)
    for title in sample_models.further(name):
        ws.add_dataset(
            project.id, title, lambda folder, title=title: sample_models.make_further(name, title, own, folder)
        )
    with opening(chromium, shared.url) as page:
        yield Desk(page, ws, shared.url, project, original)


def test_layers_are_compared_and_shares_found_for_a_budget(desk: Desk) -> None:
    page = desk.page
    desk.open("similarity")
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(re.compile("Similarity sees no order of channels"))).to_be_visible(timeout=SLOW)
    page.get_by_role("radio", name="Share", exact=True).click()
    settle(page)
    page.get_by_text("Memory for the weights of all models (MB)").click()
    field = page.get_by_role("spinbutton", name="Memory for the weights of all models (MB)")
    field.fill("0.35")
    field.press("Enter")
    settle(page)
    page.get_by_role("button", name="Look for shares").click()
    expect(page.get_by_text(re.compile("fits the 350 kB asked for"))).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("Shares with nobody: v3 Bought elsewhere")).to_be_visible()
    expect(page.get_by_text("Everything that was tried")).to_be_visible()


def test_a_fleet_is_made_and_a_drifting_stream_ends_the_share(desk: Desk) -> None:
    page = desk.page
    page.get_by_role("button", name="Make 1 share").click()
    expect(page.get_by_text("Watch it in use")).to_be_visible(timeout=SLOW)
    settle(page)
    expect(page.get_by_text(re.compile(r"Weights \d+ kB → \d+ kB, \d+.\d% less; 1 model goes on"))).to_be_visible()
    (made,) = desk.ws.fleets(desk.project.id)
    assert made.sharing == ("v2 Line B, trained further",)
    refused = desk.ws.fleet_table(made.id).query("not accepted")
    assert refused.empty or refused["reason"].str.contains("below").all()
    page.get_by_role("combobox", name=re.compile("Streams")).click()
    page.keyboard.type("focus")
    page.get_by_role("option", name="Plates out of focus").click()
    page.keyboard.press("Escape")
    settle(page)
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text(re.compile("was taken back after")).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(re.compile("It answers bit for bit as before")).first).to_be_visible()
    assert desk.ws.fleet(made.id).back == ("v2 Line B, trained further",)
    assert any("took back" in event.what for event in desk.ws.events(desk.project.id))
