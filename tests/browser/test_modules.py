"""Modules in one browser tab: the shelf, a weak class patched from a stronger model, a class forgotten, undo."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

import sample_models
from surgery.network import part, store
from surgery.workspace import Workspace
from tests.browser.conftest import Server, opening, settle
from tests.browser.desk import SLOW, Desk

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("modules")]


@pytest.fixture(scope="module")
def desk(shared: Server, chromium: Browser) -> Iterator[Desk]:
    """The sample with a weak and a strong model."""
    ws, name = Workspace(shared.home), "two_inspectors"
    project, donor = ws.create_project("Two inspectors"), next(iter(sample_models.members(name).values()))
    ws.set_tolerance(project.id, drop=100, class_drop=100)  # every result becomes current
    assert donor is not None
    ws.add_dataset(project.id, "Plates", lambda folder: sample_models.make_data(name, folder))
    weak = ws.commit(project.id, store.load(sample_models.model_folder(name)), name="Weak")
    ws.commit(project.id, store.load(donor), name="Strong, in modules", parts=part.load(donor), make_current=False)
    with opening(chromium, shared.url) as page:
        yield Desk(page, ws, shared.url, project, weak)


def test_the_weak_class_is_patched_with_a_look_at_the_risk(desk: Desk) -> None:
    page = desk.page
    desk.open("modules")
    for defect in ("crack", "pit", "stain"):
        expect(page.get_by_text(defect, exact=True).first).to_be_visible()
    expect(page.get_by_role("combobox", name="Class")).to_have_value("pit")
    expect(page.get_by_text(re.compile(r"F1 of pit \d+\.\d% → \d+\.\d%"))).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(re.compile("No other class loses|pays most"))).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Patch pit with v2").click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    assert made.parent == desk.original.id
    receipt = desk.ws.receipt(made.id)
    assert receipt is not None
    rows = {row["scope"]: row for row in receipt["table"] if row["metric"] == "accuracy"}
    assert rows["pit"]["change"] > 0.3
    assert all(row["change"] >= -0.03 for scope, row in rows.items() if scope != "pit")
    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text(re.compile(r"Accuracy \d.* → .* test, n = \d+")).first).to_be_visible(timeout=SLOW)
    desk.undo()


def test_a_model_of_two_classes_is_composed(desk: Desk) -> None:
    page = desk.page
    desk.open("modules")
    for defect in ("crack", "stain"):
        page.get_by_text(defect, exact=True).first.click()
        settle(page)
    expect(page.get_by_text(re.compile(r"right on \d+ val samples of 2 classes"))).to_be_visible(timeout=SLOW)
    settle(page)
    page.get_by_role("button", name="Compose 2 modules").click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    (made,) = (version for version in desk.ws.versions(desk.project.id) if version.candidate)
    assert desk.current.id == desk.original.id, "a version that no longer has a class waits for a decision"
    assert desk.ws.inspect(made.id)["classes"] == ["crack", "stain"]
    receipt = desk.ws.receipt(made.id)
    assert receipt is not None
    accuracy = next(row for row in receipt["table"] if (row["metric"], row["scope"]) == ("accuracy", "overall"))
    assert accuracy["after"] > 0.9
    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text(re.compile(r"Accuracy .*% .* test, n = \d+")).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(re.compile("classes removed: ")).first).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Make current").click()
    desk.wait_for_another(desk.original)
    assert desk.current.id == made.id
    desk.undo()


def test_a_class_is_forgotten_from_its_card(desk: Desk) -> None:
    page = desk.page
    desk.open("modules")
    page.get_by_role("button", name="Forget").last.click()
    page.get_by_role("button", name="Forget stain", exact=True).click(timeout=SLOW)
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    assert made.parent != desk.original.id
    assert "stain" not in desk.ws.inspect(made.id)["classes"]
    desk.undo()
