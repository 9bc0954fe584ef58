"""Jobs: what waits and runs, what has ended and why, cancel and retry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from surgery.ui import joblist
from surgery.workspace import Job, Project, Workspace, queue
from tests.pages.conftest import OpenPage, failures
from tests.patience import SECONDS


def test_nothing_is_running(open_page: OpenPage, project: Project) -> None:
    app = open_page("jobs", project=project.id)
    assert failures(app) == []
    assert "Nothing is running" in app.info[0].value
    assert any("No job has ended yet" in caption.value for caption in app.caption)


def test_a_running_job_shows_stage_percent_and_time_left(
    open_page: OpenPage, project: Project, running: Callable[..., Job]
) -> None:
    job = running(project.id)
    say(job, '{"stage": "tuning", "done": 25, "total": 100, "seconds": 5.0}', '{"log": "epoch 1"}')
    app = open_page("jobs", project=project.id)
    assert failures(app) == []
    assert app.get("progress")[0].proto.text == r"tuning\: 25 %, about 15 s left of this stage"
    assert "epoch 1" in [block.value for block in app.code]
    assert "**Prune 3 neurons**" in [element.value for element in app.markdown]


def test_a_job_reports_a_curve(open_page: OpenPage, project: Project, running: Callable[..., Job]) -> None:
    job = running(project.id)
    say(job, '{"point": {"loss": 0.9}}', '{"point": {"loss": 0.5}}')
    app = open_page("jobs", project=project.id)
    (chart,) = app.get("plotly_chart")
    assert '"y":[0.9,0.5]' in chart.proto.spec.replace(" ", "")


def test_points_are_read_on_from_where_the_last_look_stopped(
    ws: Workspace, project: Project, running: Callable[..., Job]
) -> None:
    job = running(project.id)
    say(job, '{"point": {"loss": 0.9}}')
    app = AppTest.from_function(_points, args=(str(ws.home), job.id), default_timeout=SECONDS).run()
    assert app.session_state["seen"] == [{"loss": 0.9}]
    say(job, '{"point": {"loss": 0.5}}')
    app.run()
    assert app.session_state["seen"] == [{"loss": 0.9}, {"loss": 0.5}]


def test_a_failed_job_tells_its_reason_and_can_be_tried_again(
    open_page: OpenPage, ws: Workspace, project: Project, running: Callable[..., Job], finish: Callable[..., None]
) -> None:
    job = running(project.id)
    finish(job, "failed", "The worker was killed (signal 9).")
    app = open_page("jobs", project=project.id)
    assert "killed" in failures(app)[0]
    row = app.dataframe[0].value.iloc[0]
    assert (row["Job"], row["End"], row["Project"]) == ("Prune 3 neurons", "failed", "Boxes")
    button(app, "Retry").click().run()
    # The task of this test names no plan: what submitting it says is an error panel, and the app lives on.
    assert failures(app)


def test_a_waiting_job_can_be_cancelled(
    open_page: OpenPage, ws: Workspace, project: Project, running: Callable[..., Job]
) -> None:
    running(project.id)
    waiting = queue.add(
        ws.store, {"kind": "plan"}, project=project.id, title="Prune more", lane="long", device="cpu", limit=60.0
    )
    app = open_page("jobs", project=project.id)
    assert "1 job running, 1 waiting" in [link.proto.label for link in app.get("page_link")]
    assert any("Waits for a free place on cpu" in caption.value for caption in app.caption)
    app.button(key=f"cancel_{waiting.id}").click().run()
    assert queue.get(ws.store, waiting.id).state == "cancelled"


def test_the_result_of_a_done_job_is_one_click_away(
    open_page: OpenPage, project: Project, running: Callable[..., Job], finish: Callable[..., None]
) -> None:
    job = running(project.id)
    finish(job, "done")
    app = open_page("jobs", project=project.id, job=job.id)
    assert failures(app) == []
    assert app.query_params["job"] == job.id


def test_durations(project: Project, running: Callable[..., Job]) -> None:
    taken = joblist.duration(running(project.id))
    assert taken is not None
    assert taken >= 5


def say(job: Job, *lines: str) -> None:
    """Report events as the job's worker would."""
    job.folder.mkdir(exist_ok=True)
    with (job.folder / "events.jsonl").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def button(app: AppTest, label: str) -> Any:
    """The first button with this label."""
    return next(button for button in app.button if button.label == label)


def _points(home: str, job: str) -> None:
    from pathlib import Path

    import streamlit as st

    from surgery.ui import joblist
    from surgery.workspace import Workspace

    st.session_state["seen"] = joblist.points(Workspace(Path(home)), job)
