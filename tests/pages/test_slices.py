"""The page Slices: asks for the job, shows what was found at a threshold, and takes neurons to the map."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.analysis.slices import jaccard
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.jobs import work
from surgery.ui import slicing
from surgery.workspace import Workspace
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place

OpenPage = Callable[..., AppTest]


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images)


def cut(patient: Patient) -> slicing.Sliced:
    """Find the slices as the worker does."""
    task = {"version": patient.version.id, "dataset": patient.dataset.id, "params": {}}
    job: Any = SimpleNamespace(task=task)
    work.criticality(patient.ws, job, Context())
    found = slicing.read(patient.ws, patient.version.id, patient.dataset.id)
    assert found is not None
    return found


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption])


def button(app: AppTest, label: str) -> Any:
    return next(found for found in app.button if found.label == label)


def test_without_slices_one_button_starts_the_job(open_page: OpenPage, patient: Patient) -> None:
    app = open_page("slices", **patient.link)
    assert not failures(app)
    button(app, "Find slices").click().run()
    assert not failures(app)
    submitted = [job for job in jobs.jobs(patient.ws, patient.project.id) if job.kind == "criticality"]
    assert [job.task["version"] for job in submitted] == [patient.version.id]


def test_the_numbers_are_those_of_the_table(open_page: OpenPage, patient: Patient) -> None:
    sliced = cut(patient)
    app = open_page("slices", **patient.link)
    assert not failures(app)
    for theta in (0.95, 0.6):
        app.slider(key="theta").set_value(theta).run()
        members = sliced.members("taylor", "mean", theta)
        free = int((~members.any(1)).sum())
        assert f"{free} neuron{'s are' if free != 1 else ' is'} needed by no class" in texts(app)
        least = sliced.least("taylor", 0.2)
        assert button(app, f"Take the least {least.sum()}")
        shown = app.dataframe[0].value
        assert shown["neurons in its slice"].tolist() == members.sum(0).tolist()
        assert len(app.get("plotly_chart")) == 2
    assert not failures(app)


def test_a_slice_can_be_saved_and_taken_to_the_map(
    open_page: OpenPage, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_in_place(monkeypatch)
    sliced = cut(patient)
    app = open_page("slices", **patient.link)
    wanted = sliced.ids(sliced.members("taylor", "mean", 0.95)[:, 0])
    button(app, "Save as selection").click().run()
    (saved,) = patient.ws.selections(patient.project.id)
    assert saved.ids == wanted
    assert saved.name == f"{sliced.seen.classes[0]}: slice at 0.950"
    button(app, f"Take {len(wanted)} neurons").click().run()
    assert not failures(app)
    assert f"{len(wanted)} neurons chosen" in texts(app)


def test_the_least_important_leave_every_layer_a_neuron(patient: Patient) -> None:
    sliced = cut(patient)
    points = sliced.seen.points
    everything = sliced.least("taylor", 1.0)
    assert not everything[points["fixed"].to_numpy()].any()
    for _layer, own in points.assign(gone=everything).groupby("layer"):
        assert not own["gone"].all()
    some = sliced.least("taylor", 0.3)
    assert some.sum() == round(0.3 * len(points)) and (some <= everything).all()
    best = sliced.scores["taylor"].max(1)
    assert best[some].max() <= best[everything & ~some].min()
    assert not sliced.least("taylor", 0.0).any()


def test_levels_on_the_page_agree_with_the_analysis(patient: Patient) -> None:
    import torch

    sliced = cut(patient)
    members = sliced.members("avg", "zero", 0.9)
    assert slicing.overlap(members) == pytest.approx(jaccard(torch.from_numpy(members)).numpy())
    names, shares = sliced.shares(members)
    assert shares.shape == (len(names), len(sliced.seen.classes))
    assert ((shares > 0) & (shares <= 1)).all(), "every class needs a neuron of every layer"
    more = sliced.members("avg", "zero", 0.99)
    assert (members <= more).all()
