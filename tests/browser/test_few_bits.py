"""Must-keep cases and few bits in one browser tab: pin by clicking pictures, compress to a size, a forced return."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, expect
from safetensors.torch import load_file, save_file

import sample_models
from surgery.network import store
from surgery.network.size import bytes_of
from surgery.workspace import Workspace
from tests.browser.conftest import Server, downloaded, opening, settle
from tests.browser.desk import SLOW, Desk
from tests.patience import SECONDS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("few_bits")]
ELSEWHERE = """
import sys
sys.modules["surgery"] = None  # importing it fails
sys.path.insert(0, sys.argv[1])
from loader import load
from safetensors.torch import load_file, save_file
save_file({"y": load()(load_file("x.safetensors")["x"]).detach()}, "y.safetensors")
"""
GOAL = "&operation=Make it smaller: Compress to few bits"


@pytest.fixture(scope="module")
def desk(shared: Server, chromium: Browser) -> Iterator[Desk]:
    """The surface sample."""
    ws, name = Workspace(shared.home), "surface_inspection"
    project = ws.create_project("Few bits")
    ws.set_tolerance(project.id, drop=100, class_drop=100)  # every result becomes current
    ws.add_dataset(project.id, "Plates", lambda folder: sample_models.make_data(name, folder))
    original = ws.commit(project.id, store.load(sample_models.model_folder(name)), name="Original")
    with opening(chromium, shared.url) as page:
        yield Desk(page, ws, shared.url, project, original)


def test_cases_are_drawn_and_pinned_by_clicking_pictures(desk: Desk) -> None:
    page, dataset = desk.page, str(desk.ws.project(desk.project.id).dataset)
    desk.open("must_keep")
    page.get_by_role("button", name="Draw cases").click()
    expect(page.get_by_text(re.compile("50 cases: 20 hard, 15 typical, 15 diverse")).first).to_be_visible(timeout=SLOW)
    settle(page)
    picture = page.locator("[class*='st-key-worst_1_'] label").first
    picture.scroll_into_view_if_needed()
    picture.click()
    settle(page)
    page.get_by_role("button", name="Pin 1 cases").click()
    expect(page.get_by_text(re.compile("51 cases: 1 pinned")).first).to_be_visible(timeout=SLOW)
    state = desk.ws.must_keep(dataset)[0]
    assert (state.number, len(state.pinned)) == (2, 1)
    assert not set(state.ids) & set(desk.ws.dataset(dataset).ids("test").tolist())


def test_few_bits_reach_a_size_and_break_nothing(desk: Desk) -> None:
    page = desk.page
    desk.open("change", f"&version={desk.original.id}{GOAL}")
    expect(page.get_by_text(re.compile("51 must-keep cases guard it"))).to_be_visible(timeout=SLOW)
    page.get_by_text("At most (kB)").first.click()
    field = page.get_by_role("spinbutton", name="At most (kB)")
    field.fill("60")
    field.press("Tab")
    expect(page.get_by_role("button", name="Compress to 60.0 kB")).to_be_visible(timeout=SLOW)
    settle(page)
    page.get_by_role("button", name="Compress to 60.0 kB").click()
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    made = desk.current
    assert made.parent == desk.original.id
    assert bytes_of(desk.ws.model(made.id)) <= 60_000
    receipt = desk.ws.receipt(made.id)
    assert receipt is not None
    assert receipt["cases"]["broken"] == []
    settle(page)
    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text(re.compile("0 of 5[01] protected samples broken"))).to_be_visible(timeout=SLOW)


def test_the_small_file_is_taken_away_and_opens_without_the_product(desk: Desk, tmp_path: Path) -> None:
    page, made = desk.page, desk.current
    assert made.id != desk.original.id
    desk.open("versions", f"&version={made.id}")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("button", name="Prepare: Weights and loader").click()
    ready = re.compile(r"Weights and loader .*, \d")
    expect(page.get_by_role("button", name=ready)).to_be_visible(timeout=SLOW)
    with zipfile.ZipFile(downloaded(page, ready)) as archive:
        assert archive.getinfo("model.safetensors").file_size <= 60_000 + 3_000, "with the description that opens it"
        archive.extractall(tmp_path / "small")
    model = desk.ws.model(made.id)
    x = model.input.example(4)
    save_file({"x": x}, tmp_path / "x.safetensors")
    subprocess.run([sys.executable, "-I", "-c", ELSEWHERE, "small"], cwd=tmp_path, check=True, timeout=SECONDS)
    with torch.no_grad():
        assert float((load_file(tmp_path / "y.safetensors")["y"] - model(x)).abs().max()) <= 1e-5
    desk.undo()


def test_too_much_pressure_is_taken_back(desk: Desk) -> None:
    page = desk.page
    desk.open("change", f"&version={desk.original.id}{GOAL}")
    field = page.get_by_role("spinbutton", name="Pressure on the size")
    expect(field).to_be_visible(timeout=SLOW)
    field.fill("10")
    field.press("Tab")
    settle(page)
    expect(page.get_by_role("button", name="Compress to few bits")).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name="Compress to few bits").click()
    expect(page.get_by_text("What the guard sees, and where it went back").first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(re.compile(r"went back [1-9]\d* time"))).to_be_visible(timeout=SLOW)
    looks = (desk.ws.receipt(desk.current.id) or {"tables": {}})["tables"]["looks"]
    assert any(look["back"] for look in looks)
    desk.undo()
