"""What only a server's first minutes show: a choice as its first visitor's first action, a job that outlives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.workspace import Workspace
from tests.browser import mouse
from tests.browser.conftest import Server
from tests.pages.patients import admit
from tests.patience import MILLISECONDS, until

pytestmark = pytest.mark.browser
SLOW = MILLISECONDS


def test_choosing_may_be_the_very_first_action(
    tmp_path: Path, pico_images: Dataset, server: Callable[..., Server], tab: Callable[[str], Page]
) -> None:
    patient = admit(Workspace(tmp_path / "home"), pico_images)
    page = tab(f"{server(tmp_path / 'home').url}/neurons?project={patient.project.id}")
    mouse.click(page, 3)
    expect(page.get_by_text("1 neuron chosen")).to_be_visible(timeout=SLOW)
    assert "neurons=3" in page.url


def test_a_job_outlives_the_server(
    tmp_path: Path, pico_images: Dataset, server: Callable[..., Server], tab: Callable[[str], Page]
) -> None:
    ws = Workspace(tmp_path / "home")
    patient = admit(ws, pico_images, scanned=False)
    plan = {"operation": "prune", "parameters": {"remove": [0, 1], "epochs": 100}, "inputs": [patient.version.id]}
    task = {"kind": "plan", "plan": {**plan, "dataset": patient.dataset.id}}

    first = server(tmp_path / "home")
    job = jobs.submit(ws, task, project=patient.project.id, title="Remove two neurons")
    page = tab(f"{first.url}/jobs?project={patient.project.id}")
    expect(page.get_by_text("Remove two neurons").first).to_be_visible(timeout=SLOW)
    assert jobs.status(ws, job.id).active, "it must still run when the server dies, or this proves nothing"
    first.kill()

    second = server(tmp_path / "home")
    until(lambda: not jobs.status(ws, job.id).active, "the end of the job")
    page = tab(f"{second.url}/jobs?project={patient.project.id}")
    expect(page.get_by_role("button", name="See before/after")).to_be_visible(timeout=SLOW)
    assert jobs.status(ws, job.id).state == "done"
    assert ws.project(patient.project.id).current != patient.version.id
