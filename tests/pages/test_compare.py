"""The page Compare: what the receipt measured, worded and coloured right, and a job for what was not measured yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs, standing
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.jobs import work
from surgery.tell import tell
from surgery.ui import comparison, measured
from surgery.workspace import Version, Workspace
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit
from tests.patients import mlp
from tests.rows import line, receipt, times

OpenPage = Callable[..., AppTest]


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images, scanned=False)


@pytest.fixture
def child(patient: Patient) -> Version:
    return patient.operate([0, 5, 6])


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption]).replace("\\", "")


def test_a_surgery_is_compared_with_its_parent_by_its_receipt(
    open_page: OpenPage, patient: Patient, child: Version
) -> None:
    page = open_page("compare", **patient.link)
    assert failures(page) == []
    receipt = patient.ws.receipt(child.id)
    assert receipt is not None
    told = standing.receipt_of(patient.ws, child)
    assert told is not None and f"#### {tell(told).headline}" in texts(page)
    table = page.table[0].value.set_index("Metric")
    (parameters,) = [found for found in receipt["table"] if found["metric"] == "parameters"]
    assert (table.at["Parameters", "v1"], table.at["Parameters", "v2"]) == tuple(
        f"{parameters[side]:,.0f}" for side in ("before", "after")
    )
    assert table.at["Accuracy", "Measured on"] == (
        f"test, n = {len(patient.ws.dataset(patient.dataset.id).ids('test'))} · "
        "unknown whether the model was trained on this data"
    )


def test_latency_that_a_receipt_leaves_out_is_measured_here(
    open_page: OpenPage, patient: Patient, child: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = patient.ws.receipt(child.id)
    assert told is not None
    times = [one for one in told["table"] if one["metric"].startswith("latency")]
    assert times
    told["table"] = [one for one in told["table"] if not one["metric"].startswith("latency")]
    monkeypatch.setattr(Workspace, "receipt", lambda ws, id: told if id == child.id else None)
    page = open_page("compare", **patient.link)
    assert "Latency depends on the machine and was not measured on this one." in texts(page)
    ids = [patient.version.id, child.id]
    task = {"versions": ids, "dataset": patient.dataset.id}
    done = SimpleNamespace(
        kind="compare", number=1, state="done", active=False, task=task, result={"receipt": {**told, "table": times}}
    )
    monkeypatch.setattr(measured.jobs, "jobs", lambda ws, project: [done])
    found = measured.receipt(patient.ws, patient.version, child, patient.dataset.id)
    assert found is not None
    rows = {(one["metric"], one["scope"]): one["before"] for one in found.table}
    assert {(one["metric"], one["scope"]): one["before"] for one in [*told["table"], *times]}.items() <= rows.items()


def test_flipped_samples_are_shown_as_pictures_both_ways(open_page: OpenPage, patient: Patient, child: Version) -> None:
    page = open_page("compare", **patient.link)
    receipt = patient.ws.receipt(child.id)
    assert receipt is not None
    lost, won = (receipt["flips"][f"{which}_count"] for which in ("lost", "won"))
    assert f"Regressions (correct → wrong): {lost}" in texts(page)
    assert f"Fixes (wrong → correct): {won}" in texts(page)
    assert sum(part.proto.body.count("<img") for part in page.get("html")) == lost + won


def test_the_receipt_downloads_as_one_file(open_page: OpenPage, patient: Patient, child: Version) -> None:
    page = open_page("compare", **patient.link)
    labels = [found.proto.label for found in page.get("download_button")]
    assert labels == ["Receipt (HTML)", "Table (CSV)"]


def test_a_single_version_offers_the_way_to_a_surgery(open_page: OpenPage, patient: Patient) -> None:
    page = open_page("compare", **patient.link)
    assert "one version so far" in page.info[0].value
    next(found for found in page.button if found.label == "Choose neurons").click().run()
    assert "### Neurons" in texts(page)


def test_versions_not_measured_together_are_measured_by_a_job(
    open_page: OpenPage, patient: Patient, child: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[Mapping[str, Any]] = []
    monkeypatch.setattr(jobs, "submit", lambda ws, task, **more: submitted.append(task))
    page = open_page("compare", **patient.link, before=child.id, after=patient.version.id)
    assert failures(page) == []
    next(found for found in page.button if found.label == "Measure them").click().run()
    assert submitted == [{"kind": "compare", "versions": [child.id, patient.version.id], "dataset": patient.dataset.id}]


def test_three_versions_stand_side_by_side_against_the_first(patient: Patient, child: Version) -> None:
    other = patient.operate([1])
    versions = [patient.version, child, other]
    task = {"versions": [version.id for version in versions], "dataset": patient.dataset.id}
    result = work.compare(patient.ws, SimpleNamespace(task=task), Context())
    table = measured.side_by_side(result["rows"], versions).set_index("Metric")
    assert list(table.columns) == ["v1", "v2", "v3", "Measured on"]
    assert table.at["Parameters", "v1"] == f"{patient.version.parameters:,.0f}"
    assert table.at["Parameters", "v3"].startswith(f"{other.parameters:,.0f}")
    assert "better" in table.at["Parameters", "v3"]


def test_a_change_has_the_color_of_its_verdict() -> None:
    table = [
        line("accuracy", 0.978, 0.951, low=-0.05, high=-0.01),
        line("accuracy", 0.97, 0.966, scope="cat"),
        line("bytes", 1000.0, 420.0, unit="bytes", better="lower", split="", n=0),
        line("agreement", 1.0, 0.9, lost=0, won=10),
        *times(1.0, 0.9, 0.2),
    ]
    shown = comparison.overall(table, "v1", "v2").set_index("Metric")
    assert shown["Change"].to_dict() == {
        "Accuracy": ":orange[−2.7 pp (95% CI −5.0 to −1.0), worse]",
        "Size of the weights": ":blue[−58.0%, better]",
        "Prediction agreement": ":gray[10 predictions changed, all of them fixes]",
        "Latency · batch 32": ":gray[no measurable difference]",
    }
    assert shown.at["Latency · batch 32", "v1"] == "1.00 ms (IQR 0.200)"
    assert comparison.per_class(table)["verdict"].tolist() == ["same"]


def test_removed_classes_are_named_first_and_nothing_is_praised(
    open_page: OpenPage, patient: Patient, child: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = standing.receipt_of(patient.ws, child)
    assert receipt is not None
    classes = list(patient.ws.inspect(patient.version.id)["classes"])
    fewer = replace(receipt, classes={"before": classes, "after": classes[:1]})
    monkeypatch.setattr(measured, "receipt", lambda *_: fewer)
    said = texts(open_page("compare", **patient.link))
    removed = f":orange[:material/remove_circle: {len(classes) - 1} of {len(classes)} classes removed: "
    assert said.index(removed) < said.index("Accuracy over the 1 class of both")


def test_a_receipt_that_noted_no_classes_gets_them_from_the_versions(ws: Workspace) -> None:
    project = ws.create_project("Pets").id
    first = ws.commit(project, replace(mlp((4, 3)), classes=("a", "b", "c")), name="Original")
    small = ws.commit(project, replace(mlp((4, 2)), classes=("a", "c")), name="Part", parent=first.id)
    old = line("accuracy", 0.9, 0.95)
    filled = standing.with_classes(ws, receipt([old]), first.id, small.id)
    assert tell(filled).removed == "1 of 3 classes removed: b"
    assert standing.removed_between(ws, first, small) == "1 of 3 classes removed: b"
    assert standing.with_classes(ws, receipt([old]), None, small.id).classes == {}


def test_undo_on_compare_names_its_target_and_acts_on_the_version_compared(
    open_page: OpenPage, patient: Patient, child: Version
) -> None:
    page = open_page("compare", **patient.link)
    page.button(key="undo").click().run()
    assert patient.ws.project(patient.project.id).current == patient.version.id
    assert [box.value.count(patient.version.digest) for box in page.success] == [2]
    undo = page.button(key="undo")
    assert undo.disabled and undo.help == "v2 is not current: there is nothing to undo."


def test_of_a_version_that_was_held_back_there_is_nothing_to_undo(
    open_page: OpenPage, patient: Patient, child: Version
) -> None:
    ws = patient.ws
    held = ws.commit(
        patient.project.id,
        ws.model(child.id),
        name="Held back",
        parent=child.id,
        plan=ws.plan(child.id),
        receipt=ws.receipt(child.id),
        make_current=False,
    )
    page = open_page("compare", project=patient.project.id, version=held.id)
    undo = page.button(key="undo")
    assert (undo.label, undo.disabled, undo.help) == (
        "Undo",
        True,
        "v3 is not current: there is nothing to undo.",
    )
    assert ws.project(patient.project.id).current == child.id


def test_other_jobs_are_not_taken_for_this_comparison(
    patient: Patient, child: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [patient.version.id, child.id]
    found = [_job(1, ids, "other data"), _job(2, ids[::-1], patient.dataset.id), _job(3, ids, patient.dataset.id)]
    monkeypatch.setattr(jobs, "jobs", lambda ws, project=None: found)
    assert measured.latest(patient.ws, [patient.version, child], patient.dataset.id) is found[2]


def _job(number: int, versions: list[str], dataset: str) -> SimpleNamespace:
    return SimpleNamespace(kind="compare", number=number, task={"versions": versions, "dataset": dataset})


def test_a_receipt_measured_on_another_dataset_is_not_taken(patient: Patient, child: Version) -> None:
    assert measured.receipt(patient.ws, patient.version, child, patient.dataset.id) is not None
    assert measured.receipt(patient.ws, patient.version, child, "another") is None
