"""Maintaining a model in one browser tab: a goal, its preview, the job, before and after, undo."""

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
from tests.browser.mouse import pick

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("maintain")]


@pytest.fixture(scope="module")
def desk(shared: Server, chromium: Browser) -> Iterator[Desk]:
    ws = Workspace(shared.home)
    project = ws.create_project("Maintained")
    ws.set_tolerance(project.id, drop=100, class_drop=100)  # every result becomes current
    row = ws.add_dataset(project.id, "Digits", lambda folder: sample_models.make_data("digits", folder))
    digits = ws.dataset(row.id)
    signs = sample_models.further("digits")[0]
    ws.add_dataset(project.id, signs, lambda folder: sample_models.make_further("digits", signs, digits, folder))
    original = ws.commit(project.id, store.load(sample_models.model_folder("digits")), name="Original")
    with opening(chromium, shared.url) as page:
        yield Desk(page, ws, shared.url, project, original)


def test_make_it_smaller_and_take_an_earlier_candidate(desk: Desk) -> None:
    page = desk.page
    desk.change()
    expect(page.get_by_text("hardly worth a change")).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name=re.compile(r"Compress to \d+\.\d% of the parameters")).click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    smallest = desk.current
    assert smallest.parameters <= 0.5 * desk.original.parameters

    expect(page.locator(".js-plotly-plot")).to_have_count(1, timeout=SLOW)
    pick(page, "Candidate", "1")
    settle(page)
    page.get_by_role("button", name="Make it a version").click()
    desk.wait_for_another(smallest)  # the page shows the first job's end until the second has begun
    expect(page.get_by_text("candidate 1").first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    taken = desk.current
    assert smallest.parameters < taken.parameters < desk.original.parameters
    assert taken.parent == desk.original.id

    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text(re.compile(r"Accuracy \d.* → .* test, n = \d+")).first).to_be_visible(timeout=SLOW)


def test_undo_brings_the_original_back(desk: Desk) -> None:
    page = desk.page
    desk.open("versions")
    smallest, taken = sorted(desk.ws.versions(desk.project.id), key=lambda version: version.number)[1:]
    assert desk.current.id == taken.id
    for back in (smallest, desk.original):
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text(back.digest).first).to_be_visible(timeout=SLOW)
        assert desk.current.id == back.id
        settle(page)
    assert desk.ws.verify(desk.original.id) == desk.original.digest


def test_teach_new_classes_without_forgetting(desk: Desk) -> None:
    page = desk.page
    desk.change()
    pick(page, "Goal", re.compile("Teach it more"))
    expect(page.get_by_text("4 new classes beside the 10 it knows")).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(re.compile(r"At least \d+\.\d% of the neurons are free"))).to_be_visible()
    page.get_by_role("button", name="Teach 4 new classes").click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    assert desk.ws.inspect(made.id)["classes"][-4:] == ["+", "−", "×", "="]
    receipt = desk.ws.receipt(made.id)
    assert receipt is not None
    (facts,) = receipt["tables"]["slice"]
    assert facts["free"] > 0.2
    assert facts["outputs moved by"] == 0.0
    table = {(row["metric"], row["scope"]): row for row in receipt["table"]}
    assert table["accuracy, task known", "overall"]["change"] > -0.05
    assert table["new accuracy", "overall"]["after"] > 0.8

    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text("Accuracy of the old slice alone")).to_be_visible(timeout=SLOW)
    desk.open("versions")
    expect(page.get_by_text("Holds the slice of 0, 1, 2, 3, 4, 5 …, exactly")).to_be_visible(timeout=SLOW)
    desk.undo()


def test_forget_a_class(desk: Desk) -> None:
    page = desk.page
    desk.open("change", f"&version={desk.original.id}&operation=Forget: Forget classes&class=8")
    page.get_by_role("button", name="Forget 8", exact=True).click(timeout=SLOW)
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    assert "8" not in desk.ws.inspect(made.id)["classes"]
    assert made.parameters < desk.original.parameters
    receipt = desk.ws.receipt(made.id)
    assert receipt is not None
    accuracy = next(row for row in receipt["table"] if (row["metric"], row["scope"]) == ("accuracy", "overall"))
    assert accuracy["change"] > -0.05
    page.get_by_role("button", name="See before/after").click()
    expect(
        page.get_by_text(re.compile(r"Accuracy over the 9 classes of both \d.* → .* test, n = \d+")).first
    ).to_be_visible(timeout=SLOW)
    desk.undo()


def test_fit_drifted_data_without_breaking_the_old(desk: Desk) -> None:
    page = desk.page
    desk.change()
    pick(page, "Goal", re.compile("Fit new data"))
    pick(page, "Trial data", re.compile("flatter"))
    page.get_by_role("button", name="Make a drifted copy").click()
    expect(page.get_by_text(re.compile(r"\d+ classes suffered: "))).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name=re.compile(r"Readapt: train \d+\.\d% of the parameters")).click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    receipt = desk.ws.receipt(made.id)
    assert receipt is not None
    table = {(row["metric"], row["scope"]): row for row in receipt["table"]}
    old, new = table["accuracy", "overall"], table["new accuracy", "overall"]
    assert new["change"] > 0.1
    assert old["change"] > -0.05

    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text(re.compile(r"on new data \d.* → .* test, n = \d+")).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("Accuracy on new data")).to_be_visible()
    desk.undo()
