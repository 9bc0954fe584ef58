"""Is the map usable at 20,000 neurons? PCA while the projection is computed, then clicks on the finished map.

Projection: how long its worker runs. PCA shown: from the address bar to a drawn map, while that worker runs.
click → panel as in `pages`: from the mouse button to the clicked neuron's words.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright
from sklearn.datasets import load_digits

from benchmarks.pages import CHROMIUM, FLAGS, PAINTED, clicks, p95, rest, server

NEURONS = 20_000


def project(home: Path, neurons: int) -> str:
    """A workspace with a wide perceptron on digits, scanned; its projection has just begun. The project's id."""
    import torch

    from surgery import jobs
    from surgery.data.load import from_arrays
    from surgery.network.architectures import build
    from surgery.network.model import Architecture, InputSpec, Model
    from surgery.network.trace import trace
    from surgery.workspace import Workspace

    ws = Workspace(home)
    made = ws.create_project("map").id
    digits = load_digits()
    x = digits.data.astype(np.float32)
    classes = [str(number) for number in range(10)]
    features = [f"pixel {number}" for number in range(64)]
    about: dict[str, Any] = {"classes": classes, "name": "digits", "task": "classification", "features": features}
    data = ws.add_dataset(made, "digits", lambda folder: from_arrays(folder, x, digits.target, **about))
    torch.manual_seed(0)
    architecture = Architecture("mlp", {"sizes": [64, neurons, 10]})
    module = build(architecture).eval()
    index, support = trace(module, torch.zeros(1, 64), verify=False)
    spec = InputSpec("table", (64,), (8.0,) * 64, (6.0,) * 64)
    model = Model(module, architecture, spec, "classification", tuple(classes), index, support)
    version = ws.commit(made, model, name="wide")
    task = {"kind": "scan", "version": version.id, "dataset": data.id, "params": {}}
    job = jobs.submit(ws, task, project=made, title="scan")  # its end submits the projection
    while jobs.status(ws, job.id).active:
        time.sleep(0.2)
    return made


def projected(home: Path) -> float:
    """Seconds that the projection's worker ran; waits for its end."""
    from surgery import jobs
    from surgery.workspace import Workspace

    ws = Workspace(home)
    while any(job.active for job in jobs.jobs(ws)):
        time.sleep(0.5)
    (job,) = (job for job in jobs.jobs(ws) if job.kind == "projection")
    if job.state != "done" or job.started is None or job.ended is None:
        raise RuntimeError(f"{job.title}: {job.reason}")
    return float((job.ended - job.started).total_seconds())


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures in seconds."""
    neurons = 2_000 if quick else NEURONS
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        made = project(home, neurons)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        try:
            with server(home) as (url, _started):
                page.goto(url)
                rest(page)
                start = time.monotonic()
                page.goto(f"{url}/neurons?project={made}")
                page.wait_for_function(PAINTED, timeout=60_000)
                shown = time.monotonic() - start
                seconds = projected(home)
                page.goto(f"{url}/neurons?project={made}")
                page.wait_for_function(PAINTED, timeout=60_000)
                rest(page)
                panels = clicks(page, 6 if quick else 30)
        finally:
            browser.close()
            stop(home)
    return {
        "neurons": neurons,
        "projection_s": seconds,
        "pca_shown_s": shown,
        "click_to_panel_p95_s": p95(panels),
        "click_to_panel_median_s": statistics.median(panels),
        "clicks": len(panels),
    }


def stop(home: Path) -> None:
    """End the probe that the clicks have woken."""
    from surgery.jobs import probe
    from surgery.workspace import Workspace

    probe.stop_idle(Workspace(home), seconds=0)
