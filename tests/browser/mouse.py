"""The map under a real mouse: where its points are, a click on one, a line drawn around some."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from playwright.sync_api import Locator, Page, TimeoutError, expect

from tests.browser.conftest import settle
from tests.patience import MILLISECONDS

PATIENCE = MILLISECONDS
Result = TypeVar("Result")
WHERE = """(plot, id) => {
  for (const trace of plot._fullData) {
    const k = (trace.customdata || []).indexOf(id);
    if (k < 0) continue;
    const box = plot.getBoundingClientRect(), {xaxis, yaxis} = plot._fullLayout;
    return [box.x + xaxis._offset + xaxis.d2p(trace.x[k]), box.y + yaxis._offset + yaxis.d2p(trace.y[k])];
  }
}"""
HOVERED = "id => (document.querySelector('.js-plotly-plot')._hoverdata || []).some(p => p.customdata === id)"


def drawn(page: Page) -> Locator:
    """The map, once it can be clicked."""
    plot = page.locator(".js-plotly-plot").first
    expect(plot).to_be_visible(timeout=PATIENCE)
    page.wait_for_function("document.querySelector('.js-plotly-plot')?.calcdata?.length > 0", timeout=PATIENCE)
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
    page.wait_for_function(HOVERED, arg=neuron)
    page.mouse.down()
    page.mouse.up()


def surely(act: Callable[[], Result], shown: Locator) -> Result:
    """Do it until its effect is shown: what meets a figure being drawn anew is lost."""
    for _ in range(40):
        result = act()
        settle(shown.page)
        try:
            expect(shown).to_be_visible(timeout=15_000)
            return result
        except AssertionError:
            continue
    raise AssertionError(f"{shown} is never shown")


def pick(page: Page, box: str | re.Pattern[str], option: str | re.Pattern[str]) -> None:
    """Choose an option of a list; a list that was open while the page is drawn anew closes, and is opened again."""
    exact = isinstance(option, str)
    for _ in range(40):
        settle(page)
        page.get_by_role("combobox", name=box).click()
        found = page.get_by_role("option", name=option, exact=exact)
        try:
            found.click(timeout=15_000)
            return
        except TimeoutError:
            page.keyboard.press("Escape")
    raise AssertionError(f"{box} never offers {option}")


def lasso(page: Page, ids: Collection[int], around: Collection[int]) -> set[int]:
    """Draw a rectangle by hand around some points; returns all ids inside it."""
    plot = drawn(page)
    spots = {i: place(plot, i) for i in ids}
    left, right, top, bottom = _clear(spots, around)
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    return {i for i, (x, y) in spots.items() if left < x < right and top < y < bottom}


def _clear(spots: Mapping[int, tuple[float, float]], around: Collection[int]) -> tuple[float, float, float, float]:
    """A rectangle around some points whose border passes no point closer than 3 pixels: left, right, top, bottom."""
    xs, ys = zip(*(spots[i] for i in around), strict=True)

    def edge(start: float, outwards: int, places: list[float]) -> float:
        return next(
            at
            for at in (start + outwards * step for step in range(4, 200))
            if all(abs(at - place) > 3 for place in places)
        )

    across, down = [x for x, _ in spots.values()], [y for _, y in spots.values()]
    return edge(min(xs), -1, across), edge(max(xs), 1, across), edge(min(ys), -1, down), edge(max(ys), 1, down)
