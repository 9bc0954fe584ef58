"""The page Slices: asks for the job, shows what was found at a threshold, and takes neurons to the map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.jobs import masks, work
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
        assert (
            f"**{free} neuron{'s' if free != 1 else ''}** {'are' if free != 1 else 'is'} needed by no class"
            in texts(app)
        )
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


def test_every_class_needs_a_neuron_of_every_layer(patient: Patient) -> None:
    sliced = cut(patient)
    members = sliced.members("avg", "zero", 0.9)
    names, shares = sliced.shares(members)
    assert shares.shape == (len(names), len(sliced.seen.classes))
    assert ((shares > 0) & (shares <= 1)).all(), "every class needs a neuron of every layer"
    more = sliced.members("avg", "zero", 0.99)
    assert (members <= more).all()


def job_of(patient: Patient, **asked: object) -> Any:
    """A job as the worker sees it."""
    return SimpleNamespace(
        task={"version": patient.version.id, "dataset": patient.dataset.id, "params": {}, **asked}, project=""
    )


def test_a_clicked_cell_offers_its_neurons(open_page: OpenPage, patient: Patient) -> None:
    sliced = cut(patient)
    members = sliced.members("taylor", "mean", 0.95)
    names, shares = sliced.shares(members)
    classes = len(sliced.seen.classes)
    app = open_page("slices", **patient.link, cell=str(classes + 1), pair=str(classes))
    assert not failures(app)
    own = members[:, 1] & (sliced.seen.points["layer"] == names[1]).to_numpy()
    assert app.button(key="take_cell").label == f"Take {own.sum()} neuron{'s' if own.sum() != 1 else ''}"
    both = members[:, 0] & members[:, 1]
    app.button(key="save_pair").click().run()
    (saved,) = patient.ws.selections(patient.project.id)
    assert saved.ids == sliced.ids(both)
    app = open_page("slices", **patient.link, cell=str(shares.size), pair="x")
    assert not failures(app), "a cell that does not exist is no cell"
    assert "Click a cell" in texts(app)


def test_slices_are_measured_by_a_job_and_shown(open_page: OpenPage, patient: Patient) -> None:
    sliced = cut(patient)
    app = open_page("slices", **patient.link, part="Accuracy of slices", theta="0.9")
    button(app, "Measure slices").click().run()
    assert not failures(app)
    (submitted,) = [job for job in jobs.jobs(patient.ws, patient.project.id) if job.kind == "slice_accuracy"]
    assert submitted.task["theta"] == 0.9
    file = masks.slice_accuracy(patient.ws, job_of(patient, **submitted.task), Context())["file"]
    found = json.loads(Path(file).read_text())
    *rows, union = found["rows"]
    members = sliced.members("taylor", "mean", 0.9)
    assert [row["neurons"] for row in rows] == members.sum(0).tolist()
    assert union["neurons"] == members.any(1).sum() and union["n"] == sum(row["n"] for row in rows)
    assert found["split"] == "val", "never test"
    app = open_page("slices", **patient.link, part="Accuracy of slices", theta="0.9")
    assert not failures(app)
    assert f"n = {union['n']}" in texts(app) and "All slices together: accuracy" in texts(app)
    assert app.dataframe[0].value["neurons"].tolist() == members.sum(0).tolist()
    app.slider(key="theta").set_value(0.8).run()
    assert button(app, "Measure slices"), "another threshold was not measured yet"


def test_a_failed_measurement_says_so(open_page: OpenPage, patient: Patient, finish: Callable[..., None]) -> None:
    cut(patient)
    app = open_page("slices", **patient.link, part="Compare scores")
    button(app, "Compare scores").click().run()
    (submitted,) = [job for job in jobs.jobs(patient.ws, patient.project.id) if job.kind == "score_comparison"]
    jobs.cancel(patient.ws, submitted.id)
    finish(submitted, "failed", "The device has no memory left.")
    app = open_page("slices", **patient.link, part="Compare scores")
    assert any("no memory left" in error.value for error in app.error)
    assert button(app, "Try again")


def test_scores_are_compared_at_equal_mask_rate(open_page: OpenPage, patient: Patient) -> None:
    cut(patient)
    found = json.loads(Path(masks.score_comparison(patient.ws, job_of(patient), Context())["file"]).read_text())
    assert len(found["points"]) == 4 * (5 * 4 + masks.SEEDS)
    for point in found["points"]:
        assert abs(point["masked"] - point["rate"]) < 0.25, "a handful of neurons cannot come closer"
        assert 0 <= point["value"] <= 1
    app = open_page("slices", **patient.link, part="Compare scores")
    assert not failures(app)
    assert f"val, n = {found['n']}" in texts(app) and "random neurons" in texts(app)


def test_classes_and_layers_that_belong_together(open_page: OpenPage, patient: Patient) -> None:
    sliced = cut(patient)
    app = open_page("slices", **patient.link, part="What belongs together", tau="10")
    assert not failures(app)
    (name,) = app.dataframe[0].value["semantic slice"]
    assert name.startswith(" · ".join(sliced.seen.classes)) and " share " in name
    app.button(key="save_group").click().run()
    (saved,) = patient.ws.selections(patient.project.id)
    assert saved.ids == sliced.ids(sliced.members("taylor", "mean", 0.95).any(1))
    assert "Debiased linear CKA" in texts(app)
    (sliced.seen.folder / slicing.LAYERS).unlink()
    app = open_page("slices", **patient.link, part="What belongs together")
    assert not failures(app) and any("before layers were compared" in info.value for info in app.info)


def test_other_similarities_cut_other_slices(patient: Patient) -> None:
    sliced = cut(patient)
    assert sliced.criteria == ["cosine", "cka", "mass"]
    found = [sliced.at(slicing.Cut("taylor", name, "mean", 0.95)) for name in sliced.criteria]
    assert not (found[0] == found[2]).all()
    for members in found:
        assert members.any(0).all()
    for name in [name for name in sliced.levels if not name.endswith(("mean", "zero"))]:
        del sliced.levels[name]
    assert sliced.criteria == ["cosine"], "levels of an older version have only this one"
