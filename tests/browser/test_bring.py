"""Bring a real model file and a real zipped image folder through the browser, and find an app that was killed again."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page, expect
from sklearn.datasets import load_digits

import sample_models
from surgery import jobs
from surgery.network import store
from surgery.workspace import Workspace
from tests.browser.conftest import Server, settle

pytestmark = pytest.mark.browser
SLOW = 60_000  # ms: a job that starts, on a busy machine


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


def test_bring_a_model_and_data(tmp_path: Path, server: Callable[..., Server], tab: Callable[[str], Page]) -> None:
    running = server()
    page = tab(running.url)
    page.get_by_placeholder("Name of the project").fill("Mine")
    page.get_by_role("button", name="Create project").click()

    files = page.locator("input[type=file]")
    expect(files).to_have_count(2, timeout=SLOW)
    files.nth(1).set_input_files(pictures(tmp_path / "digits.zip"))
    expect(page.get_by_text("400", exact=False).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("img", name=re.compile("A sample of")).first).to_be_visible()
    page.get_by_role("button", name="Import dataset").click()

    page.locator("input[type=file]").first.set_input_files(weights(tmp_path / "digits.pth"))
    fitting = re.compile(r"sample/digits_cnn\(\) · fits")
    expect(page.get_by_role("combobox", name="Architecture")).to_have_value(fitting, timeout=2 * SLOW)
    page.get_by_role("button", name="Import model").click()

    expect(page.get_by_text("full surgery")).to_be_visible(timeout=2 * SLOW)
    ws = Workspace(running.home)
    (project,) = ws.projects()
    (version,) = ws.versions(project.id)
    data = ws.dataset(ws.datasets(project.id)[0].id)
    assert len(data) == 400
    assert version.neurons == 178
    original = store.load(sample_models.model_folder("digits"))
    for name, tensor in ws.model(version.id).module.state_dict().items():
        assert torch.equal(tensor, original.module.state_dict()[name])

    # On to the neurons: the first scan runs in place, then the map is there.
    page.get_by_test_id("stSidebarNav").get_by_text("Neurons").click()
    page.get_by_role("button", name="Scan neurons").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=2 * SLOW)


def test_a_job_outlives_the_server(tmp_path: Path, server: Callable[..., Server], tab: Callable[[str], Page]) -> None:
    ws = Workspace(tmp_path / "home")
    project = ws.create_project("Digits").id
    data = ws.add_dataset(project, "Digits", lambda folder: sample_models.make_data("digits", folder))
    version = ws.commit(project, store.load(sample_models.model_folder("digits")), name="Original")
    plan = {"operation": "prune", "parameters": {"remove": [0, 1], "epochs": 3}, "inputs": [version.id]}
    task = {"kind": "plan", "plan": {**plan, "dataset": data.id}}
    job = jobs.submit(ws, task, project=project, title="Remove two neurons")

    first = server(tmp_path / "home")
    page = tab(f"{first.url}/jobs?project={project}")
    expect(page.get_by_text("Remove two neurons").first).to_be_visible(timeout=SLOW)
    assert jobs.status(ws, job.id).active, "it must still run when the server dies, or this proves nothing"
    first.kill()

    end = time.monotonic() + 120
    while jobs.status(ws, job.id).active:
        assert time.monotonic() < end, "the job does not end"
        time.sleep(0.3)
    second = server(tmp_path / "home")
    page = tab(f"{second.url}/jobs?project={project}")
    expect(page.get_by_text("Remove two neurons").first).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("done", exact=False).first).to_be_visible()
    settle(page)
    assert jobs.status(ws, job.id).state == "done"
    assert ws.project(project).current != version.id
