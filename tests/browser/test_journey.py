"""The main journey on the digits sample: choose, what-if, preview, prune, before and after, undo; equal digests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Locator, Page, expect

import sample_models
from surgery.analysis import neurons
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.jobs import probe
from surgery.network import store
from surgery.workspace import Project, Workspace
from tests.browser.conftest import Server, settle

pytestmark = pytest.mark.browser
SLOW = 60_000  # ms: a probe that warms up, a job that starts, on a busy machine
WHERE = """(plot, id) => {
  for (const trace of plot._fullData) {
    const k = (trace.customdata || []).indexOf(id);
    if (k < 0) continue;
    const box = plot.getBoundingClientRect(), {xaxis, yaxis} = plot._fullLayout;
    return [box.x + xaxis._offset + xaxis.d2p(trace.x[k]), box.y + yaxis._offset + yaxis.d2p(trace.y[k])];
  }
}"""


@dataclass(frozen=True)
class Opened:
    """A workspace with the digits sample, scanned, and a server on it."""

    ws: Workspace
    project: Project
    server: Server
    table: pd.DataFrame

    @property
    def ids(self) -> list[int]:
        """The neurons that are drawn."""
        return [int(i) for i in self.table.loc[self.table["point"], "id"]]


@pytest.fixture
def digits(tmp_path: Path, server: Callable[..., Server]) -> Iterator[Opened]:
    ws = Workspace(tmp_path / "home")
    project = ws.create_project("Digits")
    data = ws.add_dataset(project.id, "Digits", lambda folder: sample_models.make_data("digits", folder))
    model = store.load(sample_models.model_folder("digits"))
    version = ws.commit(project.id, model, name="Original")
    found = scan(model, ws.dataset(data.id), Context())
    folder = ws.add_scan(version.id, data.id, {}, lambda folder: neurons.save(model, found, folder))
    table = pd.read_parquet(folder / "neurons.parquet")
    table["map_x"], table["map_y"] = table["pca_x"], table["pca_y"]  # so that the map is not rearranged meanwhile
    table.to_parquet(folder / "neurons.parquet")
    yield Opened(ws, ws.project(project.id), server(tmp_path / "home"), table)
    probe.stop_idle(ws, seconds=0)


def drawn(page: Page) -> Locator:
    """The map, once it can be clicked."""
    plot = page.locator(".js-plotly-plot").first
    expect(plot).to_be_visible(timeout=SLOW)
    page.wait_for_function("document.querySelector('.js-plotly-plot')?.calcdata?.length > 0", timeout=SLOW)
    return plot


def place(plot: Locator, neuron: int) -> tuple[float, float]:
    """Where a neuron is on the screen."""
    x, y = plot.evaluate(WHERE, neuron)
    return float(x), float(y)


def click(page: Page, neuron: int) -> None:
    """Click a point of the map, once plotly knows that the mouse is over it."""
    x, y = place(drawn(page), neuron)
    page.mouse.move(x - 4, y - 4)
    page.mouse.move(x, y, steps=3)
    page.wait_for_function(
        "id => (document.querySelector('.js-plotly-plot')._hoverdata || []).some(p => p.customdata === id)",
        arg=neuron,
    )
    page.mouse.down()
    page.mouse.up()


def lasso(page: Page, ids: list[int], around: set[int]) -> set[int]:
    """Draw a rectangle by hand around some points; returns all ids inside it."""
    plot = drawn(page)
    spots = {i: place(plot, i) for i in ids}
    xs, ys = zip(*(spots[i] for i in around), strict=True)
    left, right, top, bottom = min(xs) - 6, max(xs) + 6, min(ys) - 6, max(ys) + 6
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 2)):
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    return {i for i, (x, y) in spots.items() if left < x < right and top < y < bottom}


def test_choose_what_if_prune_compare_undo(digits: Opened, tab: Callable[[str], Page]) -> None:
    ws, project = digits.ws, digits.project
    original = ws.version(project.current or "")
    page = tab(f"{digits.server.url}/neurons?project={project.id}")

    # A click as the very first action: the neuron's pictures and what happens without it.
    first = max(digits.ids, key=lambda i: digits.table.at[i, "map_x"])
    click(page, first)
    expect(page.get_by_text("1 neuron chosen")).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(f"neuron {first}", exact=False).first).to_be_visible()
    expect(page.locator(".st-key-strongest img")).to_have_count(9)
    expect(page.get_by_text("Without them:")).to_be_visible(timeout=SLOW)

    # A lasso by the mouse takes exactly what lies inside it.
    page.get_by_role("radio", name="Lasso").click()
    settle(page)
    page.wait_for_function("document.querySelector('.js-plotly-plot')?._fullLayout?.dragmode === 'lasso'")
    crowded = sorted(digits.ids, key=lambda i: digits.table.at[i, "map_y"])[-12:]
    inside = lasso(page, digits.ids, set(crowded))
    expect(page.get_by_text(f"{len(inside)} neurons chosen")).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("points", exact=False).first).to_be_visible(timeout=SLOW)

    # The preview says what goes; the button says the same.
    page.get_by_role("button", name="Remove these…").click()
    expect(page.get_by_text(re.compile(rf"{len(inside)} neurons asked → \d+ removed in \d+ layer"))).to_be_visible(
        timeout=SLOW
    )
    (saved,) = ws.selections(project.id)
    assert set(saved.ids) == inside
    run = page.get_by_role("button", name=re.compile(r"Remove \d+ neurons in \d+ layer"))
    title = run.inner_text().split("\n")[-1]
    run.click()

    # The job is watched in place to its end.
    expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=SLOW)
    after = page.get_by_role("button", name="See before/after")
    expect(after).to_be_visible(timeout=2 * SLOW)
    made = ws.version(ws.project(project.id).current or "")
    assert (made.parent, made.name) == (original.id, title)
    assert made.parameters < original.parameters

    # Before and after.
    after.click()
    expect(page.get_by_text(re.compile(r"Accuracy \d.* → .* on 269 test samples")).first).to_be_visible(timeout=SLOW)
    receipt = ws.receipt(made.id)
    assert receipt is not None
    shown = min(receipt["flips"]["lost_count"], 24)
    expect(page.locator(".st-key-flips_lost img")).to_have_count(shown)
    with page.expect_download() as download:
        page.get_by_role("button", name="Receipt (HTML)").click()
    assert "<h1>" in Path(download.value.path()).read_text("utf-8")

    # Undo, proven by a digest recomputed from the bytes.
    page.get_by_test_id("stSidebarNav").get_by_text("Versions").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text(original.digest).first).to_be_visible(timeout=SLOW)
    assert ws.project(project.id).current == original.id
    assert ws.verify(original.id) == original.digest
