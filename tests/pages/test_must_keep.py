"""The page Must keep: cases drawn, pinned by a tick, let go; and a surgery held to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.errors import DataError
from surgery.ui.must_keep import read_ids
from surgery.ui.running import missed
from surgery.workspace import Workspace, queue
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place
from tests.pages.test_change import button, texts

OpenPage = Callable[..., AppTest]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    return answer_in_place(monkeypatch)


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images, scanned=False)


def test_the_first_cases_are_drawn_by_a_job(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("must_keep", **patient.link)
    assert failures(page) == []
    button(page, "Draw cases").click().run()
    assert failures(page) == []
    (job,) = jobs.jobs(patient.ws, patient.project.id)
    assert (job.kind, job.task["size"], job.task["shares"]["hard"]) == ("must_keep", 50, 40)
    jobs.cancel(patient.ws, job.id)


def test_cases_are_pinned_and_let_go_by_ticks(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    ws, dataset = patient.ws, patient.dataset.id
    val = ws.dataset(dataset).ids("val").tolist()
    ws.save_must_keep(dataset, {val[0]: "hard", val[1]: "diverse"})
    page = open_page("must_keep", **patient.link)
    assert failures(page) == []
    assert "2 cases: 1 hard, 1 diverse" in texts(page)
    assert f"of {len((val[0], val[1]))} right" in texts(page)
    assert "Hardly covered" in page.warning[0].value
    worst = next(box for box in page.checkbox if box.key.startswith("worst_1_"))
    sample = int(worst.key.rpartition("_")[2])
    worst.check().run()
    button(page, "Pin 1 cases").click().run()
    assert ws.must_keep(dataset)[0].pinned == (sample,)
    page.checkbox(key=f"case_2_{val[1]}").uncheck().run()
    button(page, "Let go of 1").click().run()
    assert failures(page) == []
    assert ws.must_keep(dataset)[0].ids == tuple(sorted((val[0], sample)))
    assert "Since state 2: 0 entered, 1 left." in texts(page)


def test_a_surgery_is_held_to_them_unless_one_says_no(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    ws, dataset = patient.ws, patient.dataset.id
    val = ws.dataset(dataset).ids("val").tolist()
    ws.save_must_keep(dataset, dict.fromkeys(val[:3], "pinned"))
    page = open_page("change", **patient.link, operation="Make it smaller: Compress to a size", may_break="1")
    assert failures(page) == []
    plan = asked[-1]["plan"]
    assert plan["preserve"]["ids"] == sorted(val[:3])
    assert plan["preserve"]["may_break"] == 1
    page.toggle(key="must_keep").set_value(False).run()
    assert asked[-1]["plan"]["preserve"]["ids"] == []


def test_ids_come_from_a_csv() -> None:
    assert read_ids(b"sample,why\n3,dark\n7,odd\n") == [3, 7]
    assert read_ids(b"4\n5\n") == [4, 5]
    for bad in (b"a,b\n1,2\n", b"sample\nthree\n", b"\xff\xfe", b""):
        with pytest.raises(DataError, match="no list of samples"):
            read_ids(bad)


def test_cases_are_pinned_below_the_samples_of_a_neuron(
    open_page: OpenPage, ws: Workspace, pico_images: Dataset, asked: list[Mapping[str, Any]]
) -> None:
    patient = admit(ws, pico_images)
    page = open_page("neurons", **patient.link, neurons="3")
    assert failures(page) == []
    pills = page.button_group(key="pins_strongest")
    chosen = [int(str(option).removeprefix("#")) for option in pills.options[:2]]
    pills.set_value(chosen).run()
    button(page, "Pin").click().run()
    assert failures(page) == []
    assert ws.must_keep(patient.dataset.id)[0].pinned == tuple(sorted(chosen))


def test_a_draw_that_cannot_be_is_refused_where_it_is_asked_for(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("must_keep", **patient.link)
    page.number_input[0].set_value(1)
    page = button(page, "Draw cases").click().run()
    assert any("1 cases have no room for 0 pinned ones and 1 of each of 3 classes" in said for said in failures(page))
    assert jobs.jobs(patient.ws, patient.project.id) == []


def test_a_draw_that_failed_says_why_and_can_be_tried_again(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    store, task = patient.ws.store, {"kind": "must_keep", "dataset": patient.dataset.id}
    job = queue.add(store, task, project=patient.project.id, title="Draw", lane="short", device="", limit=60)
    with store.write() as db:
        queue.end(store, db, job.id, "failed", "The disk became full.")
    page = open_page("must_keep", **patient.link)
    assert any("The disk became full" in said for said in failures(page))
    assert button(page, "Draw cases"), "no dead end"


def test_a_size_that_was_not_reached_is_said() -> None:
    plan = {"parameters": {"kilobytes": 30.0}}
    table = [{"metric": "bytes", "after": 41_200}]
    assert "30.0 kB were asked for and 41.2 kB reached" in missed(plan, table)
    assert missed(plan, [{"metric": "bytes", "after": 29_000}]) == ""
    assert missed({"parameters": {}}, table) == missed(plan, []) == ""
