"""Odd but possible data on the pages of understanding: names that want to be markup, empty classes, targets without
spread, no labels at all, more classes than are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest

from surgery.analysis import kept
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Task
from surgery.jobs import work
from surgery.ui import neuron_map
from surgery.workspace import Workspace
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place

OpenPage = Callable[..., AppTest]
LINK = "<a href='https://example.org'>win</a>"
NAMES = (
    LINK,
    "Cat",
    "cat",
    "cat ",
    "{0.__class__} %{x} %s",
    "**b** :red[c] $x$",
    "n" * 300,
    "n" * 299 + "m",
    "",
    "Ω\x00",
)
FEATURES = ("size", "<b>bold</b>", "weight", "age")
TABS = ("Answers to", "Why", "Connections", "Statistics", "Model")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    return answer_in_place(monkeypatch)


def patient_of(ws: Workspace, folder: Path, y: NDArray[Any] | None, classes: Sequence[str], task: Task) -> Patient:
    x = np.random.default_rng(0).normal(size=(120 if y is None else len(y), 4)).astype(np.float32)
    return admit(
        ws,
        from_arrays(folder, x, y, classes=classes, name="<i>odd</i>", task=task, features=FEATURES),
        outputs=classes or ("a", "b"),
    )


def score(patient: Patient) -> None:
    job: Any = SimpleNamespace(task={"version": patient.version.id, "dataset": patient.dataset.id, "params": {}})
    work.criticality(patient.ws, job, Context())


def pages(open_page: OpenPage, patient: Patient) -> dict[str, AppTest]:
    """All views of a scanned version, none of which failed."""
    views = {tab: ("neurons", {"neurons": "1", "tab": tab}) for tab in TABS}
    parts = ("", "Accuracy of slices", "Compare scores", "What belongs together")
    views |= {f"slices {part}": ("slices", {"part": part} if part else {}) for part in parts}
    found = {name: open_page(page, **patient.link, **query) for name, (page, query) in views.items()}
    assert {name: problems for name, app in found.items() if (problems := failures(app))} == {}
    return found


def figures(app: AppTest) -> str:
    return json.dumps([json.loads(chart.proto.spec) for chart in app.get("plotly_chart")], ensure_ascii=False)


def test_names_are_shown_as_they_are_and_never_as_markup(ws: Workspace, open_page: OpenPage, tmp_path: Path) -> None:
    y = np.arange(200) % len(NAMES)
    patient = patient_of(ws, tmp_path / "d", y, NAMES, "classification")
    score(patient)
    for name, app in pages(open_page, patient).items():
        shown = figures(app)
        assert "<a " not in shown, name
        assert "<b>bold" not in shown, name
        assert "n" * 60 not in shown, f"{name}: a name of 300 letters would leave no room for its figure"
        for text in [*app.markdown, *app.caption]:
            assert ":red[c]" not in text.value, f"{name}: written without a backslash it would be red"
    profile = figures(open_page("neurons", **patient.link, neurons="1"))
    assert "&lt;a href" in profile
    assert "… (2)" in profile, "two long names stay two"


@pytest.mark.parametrize(
    "rule", ["Cat", "cat", '"cat "', "mean(Cat) > -9", "mean('cat ') > -9", '"{0.__class__} %{x} %s"']
)
def test_rules_name_odd_classes(ws: Workspace, open_page: OpenPage, tmp_path: Path, rule: str) -> None:
    patient = patient_of(ws, tmp_path / "d", np.arange(200) % len(NAMES), NAMES, "classification")
    app = open_page("neurons", **patient.link)
    app.text_input(key="find").set_value(rule).run()
    assert failures(app) == []


def test_a_class_without_samples_a_target_without_spread_and_no_labels(
    ws: Workspace, open_page: OpenPage, tmp_path: Path
) -> None:
    some = patient_of(ws, tmp_path / "a", np.arange(120) % 2 * 2, ("a", "empty", "c"), "classification")
    score(some)
    pages(open_page, some)
    flat = patient_of(ws, tmp_path / "b", np.full(120, 3.5), ("target",), "regression")
    score(flat)
    pages(open_page, flat)
    bare = patient_of(ws, tmp_path / "c", None, (), "unlabelled")
    score(bare)
    pages(open_page, bare)


def test_of_many_classes_the_kept_ones_are_shown(
    ws: Workspace, open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "CELLS", 100)
    monkeypatch.setattr(kept, "KEPT", 4)
    patient = patient_of(ws, tmp_path / "d", np.arange(200) % len(NAMES), NAMES, "classification")
    found = pages(open_page, patient)
    numbers = found["Statistics"].dataframe[-1].value
    assert len(numbers) == 4
    assert numbers["Mean"].is_monotonic_decreasing
    assert "The 4 of 10 classes it answers to most" in "\n".join(text.value for text in found["Statistics"].caption)
    app = open_page("neurons", **patient.link)
    app.text_input(key="find").set_value("mean(Cat) > -9").run()
    assert failures(app) == []
    assert neuron_map.STATE in app.session_state
