"""Are the pages quick while a training runs? A project of 7,280 neurons, a real Chromium, a job in the background.

click → panel: from the mouse button to the clicked neuron's words. Page text: from a click in the menu to the page's
title with its script at rest. Map painted: from the address bar to a drawn map. Cold: from starting the server to Home
at rest.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PAGES = ("Model & data", "Neurons", "Change", "Jobs", "Compare", "Versions", "Home")
AT_REST = "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]"
PAINTED = "() => document.querySelector('.js-plotly-plot')?.calcdata?.length > 0"


def project(home: Path) -> tuple[str, str]:
    """A workspace with a scanned googlenet on random 32×32 pictures, and a training job; ids of project and job."""
    import torch

    from surgery import jobs
    from surgery.data.load import from_arrays
    from surgery.network.architectures import build
    from surgery.network.model import Architecture, InputSpec, Model
    from surgery.network.trace import trace
    from surgery.workspace import Workspace

    ws = Workspace(home)
    made = ws.create_project("pages").id
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (1200, 32, 32, 3), dtype=np.uint8), np.arange(1200) % 10
    classes = [f"class {i}" for i in range(10)]
    about: dict[str, Any] = {"classes": classes, "name": "noise", "task": "classification"}
    data = ws.add_dataset(made, "noise", lambda folder: from_arrays(folder, x, y, **about))
    torch.manual_seed(0)
    architecture = Architecture("torchvision/googlenet", {"num_classes": 10, "aux_logits": False})
    module = build(architecture).eval()
    index, support = trace(module, torch.zeros(1, 3, 32, 32))
    spec = InputSpec("image", (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    model = Model(module, architecture, spec, "classification", tuple(classes), index, support)
    version = ws.commit(made, model, name="googlenet")
    task = {"kind": "scan", "version": version.id, "dataset": data.id, "params": {}}
    jobs.submit(ws, task, project=made, title="scan")  # when it has ended, it submits the projection
    known = jobs.jobs(ws)
    while any(job.active for job in known) or (len(known) < 2 and known[0].state == "done"):
        time.sleep(0.5)
        known = jobs.jobs(ws)
    for job in known:
        if job.state != "done":
            raise RuntimeError(f"{job.title}: {job.reason}")
    plan = {
        "operation": "prune",
        "parameters": {"remove": [0], "epochs": 100},
        "inputs": [version.id],
        "dataset": data.id,
    }
    training = jobs.submit(ws, {"kind": "plan", "plan": plan}, project=made, title="training")
    return made, training.id


@contextlib.contextmanager
def server(home: Path) -> Iterator[tuple[str, float]]:
    """The app on a free loopback port; its address and the moment it was started. Ended afterwards, by its pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "surgery.cli", "--port", str(port), "--no-browser"]
    start = time.monotonic()
    environment = {**os.environ, "SURGERY_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}", start
    finally:
        process.terminate()
        process.wait(20)


def rest(page: Page) -> None:
    """Wait until the page's script has ended."""
    page.wait_for_selector(AT_REST, timeout=60_000)


def clicks(page: Page, count: int) -> list[float]:
    """Seconds from a click on a point of the map to the words about that neuron."""
    spots = page.evaluate(
        """count => { const gd = document.querySelector('.js-plotly-plot'), box = gd.getBoundingClientRect();
        const all = gd._fullData.flatMap(t => t.customdata ? [...t.x].map((x, i) => [x, t.y[i], t.customdata[i]]) : []);
        const {xaxis, yaxis} = gd._fullLayout, found = [];
        for (let i = 0; i < all.length && found.length < 4 * count; i += Math.ceil(all.length / (4 * count))) {
            const [x, y, id] = all[i];
            found.push([box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y), id]);
        } return found; }""",
        count,
    )
    hovered = "() => document.querySelector('.js-plotly-plot')._hoverdata?.[0]?.customdata ?? null"
    times: list[float] = []
    last = None
    for x, y, _id in spots:
        page.mouse.move(x + 30, y + 30)
        page.mouse.move(x, y, steps=3)
        page.wait_for_timeout(400)  # among thousands of points the hover settles on the nearest one only then
        neuron = page.evaluate(hovered)
        if neuron in (None, last):  # a second click on the same neuron lets go of it
            continue
        last, start = neuron, time.monotonic()
        page.mouse.click(x, y)
        page.get_by_text(f"neuron {neuron}", exact=False).first.wait_for(timeout=20_000)
        times.append(time.monotonic() - start)
        rest(page)
        if len(times) == count:
            break
    return times


def visits(page: Page, rounds: int) -> list[float]:
    """Seconds from a click in the menu to the page's title, its script at rest."""
    times = []
    for name in PAGES * rounds:
        start = time.monotonic()
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name).first.wait_for(timeout=30_000)
        times.append(time.monotonic() - start)
        rest(page)
    return times


def p95(times: list[float]) -> float:
    """The 95th percentile."""
    return float(np.percentile(times, 95)) if times else float("inf")


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures in seconds."""
    count, rounds = (8, 1) if quick else (30, 4)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        made, training = project(home)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        try:
            with server(home) as (url, started):
                page.goto(url)
                rest(page)
                page.get_by_role("heading", name="Home").first.wait_for()
                cold = time.monotonic() - started
                start = time.monotonic()
                page.goto(f"{url}/neurons?project={made}")
                page.wait_for_function(PAINTED, timeout=60_000)
                painted = time.monotonic() - start
                rest(page)
                panels = clicks(page, count)
                texts = visits(page, rounds)
        finally:
            browser.close()
            stop(home, training)
    return {
        "click_to_panel_p95_s": p95(panels),
        "click_to_panel_median_s": statistics.median(panels),
        "clicks": len(panels),
        "page_text_p95_s": p95(texts),
        "page_text_median_s": statistics.median(texts),
        "map_painted_s": painted,
        "cold_home_s": cold,
    }


def stop(home: Path, job: str) -> None:
    """End the training job and the probe that the clicks have woken."""
    from surgery import jobs
    from surgery.jobs import probe
    from surgery.workspace import Workspace

    ws = Workspace(home)
    jobs.cancel(ws, job)
    probe.stop_idle(ws, seconds=0)
