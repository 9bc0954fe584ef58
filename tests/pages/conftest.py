"""The app under AppTest on a fresh workspace: `open_page("versions", project=…)` runs app.py on that page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import update
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.children import me
from surgery.data.load import from_arrays
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from surgery.receipt import Receipt
from surgery.workspace import Job, Project, Version, Workspace, catalogue, queue
from tests.patience import SECONDS

ROOT = Path(__file__).parents[2]
OpenPage = Callable[..., AppTest]


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace in which something has happened, so that the finished sample is not installed into it."""
    monkeypatch.chdir(ROOT)  # where .streamlit/config.toml is
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SURGERY_DEVICES", "cpu")
    for name in ("SURGERY_DATABASE", "SURGERY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    workspace = Workspace(tmp_path / "home", who="ada")
    workspace.record("opened by a test")
    yield workspace
    for job in queue.listing(workspace.store, None):
        if job.active and job.pid != os.getpid():
            jobs.cancel(workspace, job.id)


@pytest.fixture
def project(ws: Workspace) -> Project:
    """A project with an original, a changed version that is current, and a dataset."""
    made = ws.create_project("Boxes")
    original = ws.commit(made.id, perceptron(0), name="Original")
    ws.commit(
        made.id,
        perceptron(1),
        name="Pruned",
        parent=original.id,
        operation="Prune neurons",
        plan={"operation": "prune", "parameters": {}, "inputs": [original.id], "dataset": ""},
        receipt=receipt(),
        kept=torch.arange(8),
    )
    ws.add_dataset(made.id, "Measured", boxes)
    return ws.project(made.id)


@pytest.fixture
def versions(ws: Workspace, project: Project) -> list[Version]:
    """The original and the changed version."""
    return ws.versions(project.id)


@pytest.fixture
def running_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let AppTest behave like a server after its first request: app.py runs on every page.

    AppTest forgets before every run that the app has called st.navigation, and runs the page's file directly; a
    server does so only once (tests/browser/test_deep_link.py looks at that).
    """
    fresh = PagesManager.__init__

    def after_the_first_request(self: PagesManager, *given: Any, **named: Any) -> None:
        fresh(self, *given, **named)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", after_the_first_request)


@pytest.fixture
def open_page(ws: Workspace, running_server: None) -> OpenPage:
    """Run the app on a page, as a link with that query would."""

    def open_page(name: str = "home", **query: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
        app.query_params.update(query)
        app.run()
        if name != "home":
            app.query_params.update(query)
            app.switch_page(f"pages/{name}.py").run()
        return app

    return open_page


@pytest.fixture
def running(ws: Workspace) -> Callable[..., Job]:
    """Put a job into the queue that looks as if it ran in this very process."""

    def running(project: str, title: str = "Prune 3 neurons") -> Job:
        task = {"kind": "plan"}
        with ws.store.write() as db:
            db.execute(
                catalogue.jobs.insert().values(
                    id="a" * 10,
                    project=project,
                    title=title,
                    kind="plan",
                    lane="long",
                    state="running",
                    device="cpu",
                    slot=queue.slot("long", "cpu"),
                    pid=os.getpid(),
                    pid_created=me().born,
                    created=time.time(),
                    started=time.time() - 5,
                    limit=3600.0,
                    who="ada",
                    task=task,
                )
            )
        return queue.get(ws.store, "a" * 10)

    return running


@pytest.fixture
def finish(ws: Workspace) -> Callable[..., None]:
    """End the job that `running` made."""

    def finish(job: Job, state: str = "done", reason: str = "") -> None:
        values = {"state": state, "slot": None, "ended": time.time(), "reason": reason}
        with ws.store.write() as db:
            db.execute(update(catalogue.jobs).where(catalogue.jobs.c.id == job.id).values(**values))

    return finish


def perceptron(seed: int, outputs: int = 3) -> Model:
    """Four features, five hidden neurons, three classes."""
    torch.manual_seed(seed)
    architecture = Architecture("mlp", {"sizes": [4, 5, outputs]})
    module = build(architecture).eval()
    index, support = trace(module, torch.randn(2, 4))
    spec = InputSpec("table", (4,), (0.0,) * 4, (1.0,) * 4)
    return Model(module, architecture, spec, "classification", ("long", "wide", "high"), index, support)


def boxes(folder: Path) -> Any:
    """90 rows of four features; the class is the largest of the first three."""
    x = np.random.default_rng(1).normal(5.0, 2.0, (90, 4)).astype(np.float32)
    features = ("length", "width", "height", "noise")
    return from_arrays(
        folder,
        x,
        x[:, :3].argmax(1),
        classes=("long", "wide", "high"),
        name="Measured",
        task="classification",
        features=features,
    )


def receipt() -> dict[str, Any]:
    """What a surgery leaves with its version."""
    row = {"scope": "overall", "unit": "fraction", "better": "higher", "split": "test", "n": 14}
    table = [{"metric": "accuracy", "before": 13 / 14, "after": 12 / 14, "change": -1 / 14, **row}]
    flips = {"lost": [], "won": [], "lost_count": 1, "won_count": 0}
    dataset = {"digest": "", "task": "classification", "classes": ["long", "wide", "high"]}
    return Receipt("Prune neurons", {"inputs": []}, dataset, table, flips, {}, {}, 1.0).to_json()


def failures(app: AppTest) -> list[str]:
    """The error panels on the page; empty when all is well."""
    return [error.value for error in app.error] + [problem.message for problem in app.exception]
