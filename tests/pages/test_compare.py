"""The page Compare: what the receipt measured, worded and coloured right, and a job for what was not measured yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.jobs import work
from surgery.receipt import sentence
from surgery.ui import comparison, measured
from surgery.workspace import Version, Workspace
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit

OpenPage = Callable[..., AppTest]


def row(metric: str, before: float | None, after: float | None, **more: Any) -> dict[str, Any]:
    change = None if before is None or after is None else after - before
    usual = {"scope": "overall", "unit": "fraction", "better": "higher", "split": "test", "n": 36}
    return {"metric": metric, "before": before, "after": after, "change": change, **usual, **more}


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
    assert f"#### {sentence(receipt['table'])}" in texts(page)
    table = page.table[0].value.set_index("Measure")
    (parameters,) = [found for found in receipt["table"] if found["metric"] == "parameters"]
    assert (table.at["Parameters", "v1"], table.at["Parameters", "v2"]) == tuple(
        f"{parameters[side]:,.0f}" for side in ("before", "after")
    )
    assert table.at["Accuracy", "Measured on"] == f"test, n = {len(patient.ws.dataset(patient.dataset.id).ids('test'))}"


def test_flipped_samples_are_shown_as_pictures_both_ways(open_page: OpenPage, patient: Patient, child: Version) -> None:
    page = open_page("compare", **patient.link)
    receipt = patient.ws.receipt(child.id)
    assert receipt is not None
    lost, won = (receipt["flips"][f"{which}_count"] for which in ("lost", "won"))
    assert f"Right before, wrong after: {lost}" in texts(page)
    assert f"Wrong before, right after: {won}" in texts(page)
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
    table = measured.side_by_side(result["rows"], versions).set_index("Measure")
    assert list(table.columns) == ["v1", "v2", "v3", "Measured on"]
    assert table.at["Parameters", "v1"] == f"{patient.version.parameters:,.0f}"
    assert table.at["Parameters", "v3"].startswith(f"{other.parameters:,.0f}")
    assert "better" in table.at["Parameters", "v3"]


def test_a_fall_in_accuracy_is_worse_and_a_fall_in_size_is_better() -> None:
    worse = row("accuracy", 0.978, 0.951)
    better = row("bytes", 1000.0, 420.0, unit="bytes", better="lower", split="", n=0)
    assert comparison.worded(worse) == ":orange[▼ −2.7 points, worse]"
    assert comparison.worded(better) == ":blue[▼ −58 %, better]"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (row("r2", 0.5, 0.45, unit=""), ":orange[▼ −0.05, worse]"),
        (row("mse", 10.0, 8.0, unit="", better="lower"), ":blue[▼ −2, better]"),
        (row("accuracy", 0.9, 0.9), ":gray[±0 points]"),
        (row("accuracy", None, 0.9), ":gray[–]"),
    ],
)
def test_changes_are_worded_in_their_own_unit(given: dict[str, Any], said: str) -> None:
    assert comparison.worded(given) == said


def test_a_difference_in_time_within_its_spread_is_none() -> None:
    time = row("latency", 1.0, 0.9, unit="ms", better="lower", scope="batch 1", split="cpu, 1 thread", n=30)
    spread = row("latency IQR", 0.2, 0.1, unit="ms", better="", scope="batch 1")
    assert comparison.worded(time, spread) == ":gray[within its spread]"
    table = comparison.overall([time, spread], "v1", "v2")
    assert table["v1"].tolist() == ["1.00 ms (IQR 0.200)"]
    assert table["Measured on"].tolist() == ["cpu, 1 thread, 30 passes"]


def test_the_class_that_loses_most_is_named_with_its_n() -> None:
    rows = [row("accuracy", 1.0, 0.75, scope="cat", n=8), row("accuracy", 1.0, 0.5, scope="dog", n=4)]
    assert comparison.losing(rows) == "Class dog loses most: −50 points (n = 4)"
    assert comparison.losing([row("accuracy", 0.5, 0.75, scope="cat")]) == ""


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
