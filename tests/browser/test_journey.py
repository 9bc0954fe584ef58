"""The whole journey in one browser tab, a test for each of its stages: bring a model and data, see the neurons, choose,
preview, prune, compare, undo. A stage begins where the one before it ended.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from sklearn.datasets import load_digits

import sample_models
from surgery import jobs
from surgery.analysis import query
from surgery.jobs import probe
from surgery.network import store
from surgery.ui import slicing
from surgery.workspace import Project, Version, Workspace
from tests.browser import mouse
from tests.browser.conftest import Server, downloaded, opening, settle
from tests.patience import MILLISECONDS, until

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("journey")]
SLOW = MILLISECONDS
NAME = "Mine"


@dataclass(frozen=True)
class Journey:
    """One tab on the shared server, and the workspace behind it."""

    page: Page
    ws: Workspace
    url: str

    @property
    def project(self) -> Project:
        """The project that the first stage makes."""
        return next(project for project in self.ws.projects() if project.name == NAME)

    @property
    def versions(self) -> list[Version]:
        """Its versions, oldest first."""
        return sorted(self.ws.versions(self.project.id), key=lambda version: version.number)

    @property
    def neurons(self) -> pd.DataFrame:
        """What the scan of the first version found."""
        (data,) = self.ws.datasets(self.project.id)
        return pd.read_parquet(self.ws.scan_folder(self.versions[0].id, data.id, {}) / "neurons.parquet")


@pytest.fixture(scope="module")
def journey(shared: Server, chromium: Browser) -> Iterator[Journey]:
    with opening(chromium, shared.url) as page:
        yield Journey(page, Workspace(shared.home), shared.url)


def pictures(target: Path, count: int = 400) -> Path:
    """The first digits of scikit-learn as a zip of one folder per class."""
    digits = load_digits()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(count):
            picture = io.BytesIO()
            Image.fromarray((digits.images[number] * 255 / 16).astype(np.uint8)).save(picture, "PNG")
            archive.writestr(f"digits/{digits.target[number]}/{number:04}.png", picture.getvalue())
    return target


def weights(target: Path) -> Path:
    """The digits sample as somebody's training script would have saved it."""
    model = store.load(sample_models.model_folder("digits"))
    torch.save({"model_state_dict": model.module.state_dict(), "epoch": 12}, target)
    return target


def wait_for_jobs(journey: Journey) -> None:
    """Until at least one was begun and all have ended."""

    def ended() -> bool:
        found = jobs.jobs(journey.ws, journey.project.id)
        return bool(found) and not any(job.active for job in found)

    until(ended, "the end of all jobs")


def test_bring_a_zip_of_pictures(journey: Journey, tmp_path: Path) -> None:
    page = journey.page
    page.get_by_placeholder("Name of the project").fill(NAME)
    page.get_by_role("button", name="Create project").click()
    files = page.locator("input[type=file]")
    expect(files).to_have_count(2, timeout=SLOW)
    files.nth(1).set_input_files(pictures(tmp_path / "digits.zip"))
    expect(page.get_by_text("400", exact=False).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("img", name=re.compile("A sample of")).first).to_be_visible()
    page.get_by_role("button", name="Import dataset").click()
    wait_for_jobs(journey)
    expect(page.get_by_role("button", name="Bring another dataset")).to_be_visible(timeout=SLOW)
    settle(page)  # a file given while the page is drawn anew would be lost
    (data,) = journey.ws.datasets(journey.project.id)
    assert len(journey.ws.dataset(data.id)) == 400


def test_bring_a_file_of_weights(journey: Journey, tmp_path: Path) -> None:
    page = journey.page
    page.locator("input[type=file]").first.set_input_files(weights(tmp_path / "digits.pth"))
    fitting = re.compile(r"sample/digits_cnn\(\) · fits")
    expect(page.get_by_role("combobox", name="Architecture")).to_have_value(fitting, timeout=SLOW)
    page.get_by_role("button", name="Import model").click()
    expect(page.get_by_text("fully editable")).to_be_visible(timeout=SLOW)
    (version,) = journey.versions
    assert version.neurons == 178
    original = store.load(sample_models.model_folder("digits"))
    for name, tensor in journey.ws.model(version.id).module.state_dict().items():
        assert torch.equal(tensor, original.module.state_dict()[name])


def test_scan_and_see_the_map(journey: Journey) -> None:
    page = journey.page
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Neurons").click()
    page.get_by_role("button", name="Scan neurons").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=SLOW)
    wait_for_jobs(journey)  # the map is arranged once more
    assert "map_x" in journey.neurons


def test_a_click_then_a_lasso(journey: Journey) -> None:
    page, table = journey.page, journey.neurons
    ids = [int(i) for i in table.loc[table["point"], "id"]]

    # A click as the very first action of a visit: the neuron's pictures and what happens without it.
    page.goto(f"{journey.url}/neurons?project={journey.project.id}")
    first = max(ids, key=lambda i: table.at[i, "map_x"])
    mouse.surely(lambda: mouse.click(page, first), page.get_by_text("1 neuron chosen"))
    expect(page.get_by_text(f"neuron {first}", exact=False).first).to_be_visible()
    expect(page.locator(".st-key-strongest figure, .st-key-located figure")).to_have_count(9)
    expect(page.get_by_text("Without them:")).to_be_visible(timeout=SLOW)

    # A lasso takes exactly what lies inside it.
    page.get_by_role("radio", name="Lasso").click()
    settle(page)
    page.wait_for_function("document.querySelector('.js-plotly-plot')?._fullLayout?.dragmode === 'lasso'")
    crowded = sorted(ids, key=lambda i: table.at[i, "map_y"])[-12:]
    inside = mouse.surely(lambda: mouse.lasso(page, ids, crowded), page.get_by_text(re.compile(r"\d\d neurons chosen")))
    expect(page.get_by_text(f"{len(inside)} neurons chosen")).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("pp", exact=False).first).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name="Remove these…").click()
    asked = re.compile(rf"{len(inside)} neurons asked → \d+ removed in \d+ layer")
    expect(page.get_by_text(asked)).to_be_visible(timeout=SLOW)
    (saved,) = journey.ws.selections(journey.project.id)
    assert set(saved.ids) == inside


def test_prune_and_watch_the_job_to_its_end(journey: Journey) -> None:
    page = journey.page
    journey.ws.set_tolerance(journey.project.id, drop=100, class_drop=100)  # whatever the lasso caught
    run = page.get_by_role("button", name=re.compile(r"Remove \d+ neurons in \d+ layer"))
    title = run.inner_text().split("\n")[-1]
    run.click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    original, made = journey.versions
    assert journey.project.current == made.id
    assert (made.parent, made.name) == (original.id, title)
    assert made.parameters < original.parameters


def test_before_and_after(journey: Journey) -> None:
    page, made = journey.page, journey.versions[-1]
    page.get_by_role("button", name="See before/after").click()
    expect(page.get_by_text(re.compile(r"Accuracy \d.* → .* test, n = \d+")).first).to_be_visible(timeout=SLOW)
    receipt = journey.ws.receipt(made.id)
    assert receipt is not None
    expect(page.locator(".st-key-flips_lost img")).to_have_count(min(receipt["flips"]["lost_count"], 24))
    wait_for_jobs(journey)  # while one runs the page is drawn anew each second, and a click may come in between
    assert "<h1>" in downloaded(page, "Receipt (HTML)").read_text("utf-8")


def test_undo_is_proven_by_the_digest_of_the_bytes(journey: Journey) -> None:
    page, original = journey.page, journey.versions[0]
    page.get_by_test_id("stSidebarNav").get_by_text("Versions").click()
    expect(page.get_by_role("button", name="Redo")).to_be_visible(timeout=SLOW)  # Compare has an Undo too
    page.get_by_role("button", name=f"Undo: back to v{original.number}").click()
    expect(page.get_by_text(original.digest).first).to_be_visible(timeout=SLOW)
    assert journey.project.current == original.id
    assert journey.ws.verify(original.id) == original.digest


def test_find_slices(journey: Journey) -> None:
    page, menu = journey.page, journey.page.get_by_test_id("stSidebarNav")
    menu.get_by_role("link", name="Slices").click()
    page.get_by_role("button", name="Find slices").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=SLOW)
    sliced = slicing.read(journey.ws, journey.versions[0].id, journey.project.dataset)
    members, layers = sliced.members("taylor", "mean", 0.95), sliced.seen.points["layer"].to_numpy()
    count = int(members[:, 0].sum())
    expect(page.get_by_role("button", name=f"Take {count} neurons")).to_be_visible()
    mouse.click(page, 3)  # the cell of the first layer and the digit 3
    own = members[layers == layers[0], 3].sum()
    expect(page.get_by_text(f"3 needs {own} neurons of {layers[0]}.")).to_be_visible(timeout=SLOW)


def test_understand_a_neuron_and_share_the_view(journey: Journey) -> None:
    """Search by rule, open a neuron, see where it looks, silence it, save the selection, open its link elsewhere."""
    page = journey.page
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Neurons").click()
    find = page.get_by_role("searchbox", name="Find")
    find.fill("critical(3) > 0.8")
    find.press("Enter")
    sliced = slicing.read(journey.ws, journey.versions[0].id, journey.project.dataset)
    ranks = query.layer_ranks(sliced.seen.points["layer"].to_numpy(dtype=object), sliced.scores["taylor"])
    ids = np.array(sliced.seen.ids)[ranks[:, 3] > 0.8]
    expect(page.get_by_text(f"{len(ids)} neurons chosen")).to_be_visible(timeout=SLOW)

    find.fill(str(ids[-1]))
    find.press("Enter")
    expect(page.get_by_text("1 neuron chosen")).to_be_visible(timeout=SLOW)
    expect(page.locator(".st-key-located [data-region=map]")).to_have_count(9, timeout=SLOW)
    answer = probe.ask(
        journey.ws, journey.versions[0].id, journey.project.dataset, {"what": "whatif", "remove": [int(ids[-1])]}
    )
    row = next(row for row in answer["rows"] if row["metric"] == "accuracy")
    expect(page.get_by_text(f"Without them: Accuracy {100 * row['before']:.1f}%")).to_contain_text(
        f"{100 * row['after']:.1f}%"
    )

    page.get_by_role("button", name="Selections").click()
    page.get_by_role("textbox", name="Save the chosen neurons as").fill("One for 3")
    page.get_by_role("button", name="Save 1 neuron").click()
    expect(page.get_by_text("Saved as One for 3.").first).to_be_visible(timeout=SLOW)
    saved = next(one for one in journey.ws.selections(journey.project.id) if one.name == "One for 3")
    assert saved.ids == (int(ids[-1]),)

    for link in (page.url, f"{journey.url}/neurons?project={journey.project.id}&selection={saved.id}"):
        with opening(page.context.browser, link) as another:  # a profile of its own: the address alone brings the view
            expect(another.get_by_text("1 neuron chosen")).to_be_visible(timeout=SLOW)
            expect(another.get_by_text(f"neuron {ids[-1]}", exact=False).first).to_be_visible()
            expect(another.locator(".st-key-located [data-region=map]")).to_have_count(9, timeout=SLOW)
