"""Are the pages quick while a training runs? A project of 7,280 neurons, a real Chromium, a job in the background.

Each figure is a ratio to a bare Streamlit app in the same run: a click on the map to the neuron's words, to a click on
the same points in a script that only prints their number; a click in the menu to the page's title, to the same between
two pages with a title each; the address bar to a drawn map, to the same points drawn by the bare script; a cold start
to Home at rest, to `streamlit hello`.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.reference import bare, hello, started

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE = 600_000  # ms: a bound, not a claim
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


APP = ("-m", "surgery.cli", "--port", "{port}", "--no-browser")


def rest(page: Page) -> None:
    """Wait until the page's script has ended."""
    page.wait_for_selector(AT_REST, timeout=PATIENCE)


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
        page.get_by_text(f"neuron {neuron}", exact=False).first.wait_for(timeout=PATIENCE)
        times.append(time.monotonic() - start)
        rest(page)
        if len(times) == count:
            break
    return times


def visits(page: Page, names: Sequence[str]) -> list[float]:
    """Seconds from a click in the menu to the page's title, its script at rest."""
    times = []
    for name in names:
        start = time.monotonic()
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name).first.wait_for(timeout=PATIENCE)
        times.append(time.monotonic() - start)
        rest(page)
    return times


def p95(times: list[float]) -> float:
    """The 95th percentile."""
    return float(np.percentile(times, 95)) if times else float("inf")


def painted(page: Page, url: str) -> float:
    """Seconds from the address bar to a drawn map."""
    start = time.monotonic()
    page.goto(url)
    page.wait_for_function(PAINTED, timeout=PATIENCE)
    seconds = time.monotonic() - start
    rest(page)
    return seconds


def cold(page: Page, arguments: Sequence[str], environment: dict[str, str]) -> float:
    """Seconds from the start of a server to its first page at rest."""
    with started(arguments, environment) as (url, start):
        page.goto(url)
        rest(page)
        return time.monotonic() - start


def measure(*, quick: bool) -> dict[str, Any]:
    """Ratios to a bare Streamlit app on the same machine, in turns, and the seconds beside them."""
    count, rounds, starts = (8, 1, 1) if quick else (30, 4, 3)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder) / "home"
        made, training = project(home)
        environment = {**os.environ, "SURGERY_HOME": str(home)}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        ours, plain = (browser.new_context(viewport={"width": 1440, "height": 900}).new_page() for _ in range(2))
        try:
            colds = [(cold(ours, APP, environment), cold(plain, hello(), dict(os.environ))) for _ in range(starts)]
            with started(APP, environment) as (url, _):
                map_page = f"{url}/neurons?project={made}"
                painted(ours, map_page)  # the first one compiles and reads from disk
                with started(bare(ours, Path(folder)), dict(os.environ)) as (bare_url, _):
                    painted(plain, bare_url)
                    maps = [(painted(ours, map_page), painted(plain, bare_url)) for _ in range(starts)]
                    panels = clicks(ours, count), clicks(plain, count)
                    texts = visits(ours, PAGES * rounds), visits(plain, ("Written", "Drawn") * 3 * rounds)
        finally:
            browser.close()
            stop(home, training)
    return {
        "click_ratio_p95": p95(panels[0]) / p95(panels[1]),
        "page_text_ratio_p95": p95(texts[0]) / p95(texts[1]),
        "map_painted_ratio": ratio(maps),
        "cold_home_ratio": ratio(colds),
        "clicks": len(panels[0]),
        "table": [
            _line("click to the neuron's words, p95", p95(panels[0]), p95(panels[1])),
            _line("click to the neuron's words, median", statistics.median(panels[0]), statistics.median(panels[1])),
            _line("menu to the page's title, p95", p95(texts[0]), p95(texts[1])),
            _line("address to the drawn map", *medians(maps)),
            _line("start of the server to Home at rest", *medians(colds)),
        ],
    }


def medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The median of ours and of the reference."""
    ours, reference = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(reference)


def ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The median of the ratios of pairs measured one after the other."""
    return statistics.median(ours / reference for ours, reference in pairs)


def _line(what: str, ours: float, reference: float) -> dict[str, Any]:
    return {"what": what, "seconds": ours, "bare Streamlit": reference, "ratio": ours / reference}


def stop(home: Path, job: str) -> None:
    """End the training job and the probe that the clicks have woken."""
    from surgery import jobs
    from surgery.jobs import probe
    from surgery.workspace import Workspace

    ws = Workspace(home)
    jobs.cancel(ws, job)
    probe.stop_idle(ws, seconds=0)
