"""Is the map usable at 20,000 neurons? PCA while the projection is computed, then clicks on the finished map.

Each figure is a ratio measured in the same run: the projection's worker to a process that runs umap-learn with its
defaults on as many points; the address bar to a drawn map, while that worker runs, to the same points drawn by a bare
Streamlit script; a click to the neuron's words, to a click in that script.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright
from sklearn.datasets import load_digits

from benchmarks.pages import APP, CHROMIUM, FLAGS, clicks, p95, painted
from benchmarks.reference import bare, process, started

NEURONS = 20_000
UMAP = "import numpy, umap; umap.UMAP().fit_transform(numpy.random.default_rng(0).normal(size=({neurons}, 30)))"


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
    """Ratios to what plain packages take on the same machine, and the seconds beside them."""
    neurons, count = (2_000, 6) if quick else (NEURONS, 30)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder) / "home"
        made = project(home, neurons)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        ours, plain = (browser.new_context(viewport={"width": 1440, "height": 900}).new_page() for _ in range(2))
        try:
            with started(APP, {**os.environ, "SURGERY_HOME": str(home)}) as (url, _):
                shown = painted(ours, f"{url}/neurons?project={made}")  # while the projection's worker runs
                seconds = projected(home)
                umap = process("-c", UMAP.format(neurons=neurons))
                painted(ours, f"{url}/neurons?project={made}")
                with started(bare(ours, Path(folder)), dict(os.environ)) as (bare_url, _):
                    drawn = painted(plain, bare_url)
                    panels = clicks(ours, count), clicks(plain, count)
        finally:
            browser.close()
            stop(home)
    lines = [
        ("projection's worker ÷ umap-learn with its defaults", seconds, umap),
        ("address to the drawn map, first time ÷ bare Streamlit", shown, drawn),
        ("click to the neuron's words, p95 ÷ bare Streamlit", p95(panels[0]), p95(panels[1])),
    ]
    return {
        "neurons": neurons,
        "projection_ratio": seconds / umap,
        "pca_shown_ratio": shown / drawn,
        "click_ratio_p95": p95(panels[0]) / p95(panels[1]),
        "clicks": len(panels[0]),
        "table": [{"what": name, "seconds": a, "reference": b, "ratio": a / b} for name, a, b in lines],
    }


def stop(home: Path) -> None:
    """End the probe that the clicks have woken."""
    from surgery.jobs import probe
    from surgery.workspace import Workspace

    probe.stop_idle(Workspace(home), seconds=0)
