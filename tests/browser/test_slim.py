"""Slimming in one browser tab: the tabular regressor, its curve, the result, another point of it as a version."""

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

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("slim")]


@pytest.fixture(scope="module")
def desk(shared: Server, chromium: Browser) -> Iterator[Desk]:
    """The sample of a regression on a table."""
    ws = Workspace(shared.home)
    project = ws.create_project("Slim")
    ws.set_tolerance(project.id, drop=100, class_drop=100)  # every result becomes current
    ws.add_dataset(project.id, "Diabetes", lambda folder: sample_models.make_data("diabetes", folder))
    original = ws.commit(project.id, store.load(sample_models.model_folder("diabetes")), name="Original")
    with opening(chromium, shared.url) as page:
        yield Desk(page, ws, shared.url, project, original)


def test_a_regressor_is_slimmed_from_its_curve(desk: Desk) -> None:
    page = desk.page
    desk.open("change", f"&version={desk.original.id}&operation=Make it smaller: Slim dense layers")
    expect(page.get_by_text(re.compile(r"of the parameters at ε = 0\.5 down to"))).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("Quality over size, one point for each ε").first).to_be_visible()
    field = page.get_by_role("spinbutton", name="Quality that may be lost")
    field.fill("3")
    field.press("Tab")
    settle(page)
    page.get_by_role("button", name=re.compile("Slim at the best of")).click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    assert made.parent == desk.original.id
    assert made.parameters < desk.original.parameters
    settle(page)
    page.get_by_role("button", name="Make it a version").click()
    desk.wait_for_another(made)
    assert desk.current.parent == desk.original.id
