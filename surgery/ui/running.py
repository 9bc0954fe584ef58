"""A plan on its way: previewed, submitted as a job, named by the URL, watched in place until its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import streamlit as st

from surgery import jobs, standing
from surgery.errors import JobError, NotFoundError, SurgeryError
from surgery.jobs import Job
from surgery.plan import Plan
from surgery.tell import tell
from surgery.ui import candidates, format, panels, preview, progress, results, shell
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.workspace import Project, Workspace

JOB = "job"  # ?job=


def look_ahead(ws: Workspace, project: Project, plan: Plan, neurons: int, *, title: str = "", icon: str) -> None:
    """Preview a plan on a version with `neurons` neurons, offer to run it and to take it along.

    title: of the button and the job, by default what the preview says of it.
    """
    place = st.empty()
    try:
        with place, panels.loading(320):
            answer = preview.ask(ws, plan)
    except SurgeryError as error:
        with place.container():
            _without_preview(ws, project, plan, error, title or plan.build().title, icon)
        return
    title = title or preview.action(answer)
    with place.container():
        preview.show(answer, neurons)
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button(title, type="primary", icon=icon, disabled=bool(answer.get("refusal")), key=plan.operation):
                start(ws, project, plan, title)
            st.caption(
                _("about {time} on {device}; v{number} stays as it is").format(
                    time=format.seconds(answer["job_seconds"]),
                    device=plan.device,
                    number=ws.version(plan.inputs[0]).number,
                ),
                width="stretch",
            )
            st.download_button(
                _("Plan (JSON)"),
                plan.model_dump_json(indent=2),
                "plan.json",
                "application/json",
                icon=":material/download:",
                key=f"plan_{plan.operation}",
            )


def _without_preview(ws: Workspace, project: Project, plan: Plan, error: SurgeryError, title: str, icon: str) -> None:
    """Say why there is no preview; where the plan is not at fault, ask for it again, or run the plan without one."""
    panels.show_error(error)
    if not isinstance(error, JobError):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(_("Try the preview again"), icon=":material/replay:", key=f"again_{plan.operation}"):
            st.rerun()
        if st.button(_("{title} without a preview").format(title=title), icon=icon, key=plan.operation):
            start(ws, project, plan, title)


def start(ws: Workspace, project: Project, plan: Plan, title: str, *, name: str = "") -> NoReturn:
    """Make a job of the plan and watch it here; name: of what it makes, by default the title."""
    task = {"kind": "plan", "plan": plan.model_dump(mode="json"), "name": name or title}
    st.query_params[JOB] = jobs.submit(ws, task, project=project.id, title=title).id
    st.rerun()


def here(ws: Workspace) -> Job | None:
    """The job that was started here."""
    named = st.query_params.get(JOB)
    try:
        return jobs.status(ws, named) if named else None
    except NotFoundError:
        del st.query_params[JOB]
        return None


def watch(ws: Workspace, project: Project, job: Job) -> None:
    """Progress while it runs; at its end the way to before and after."""
    if job.state != "done":
        progress.watch(ws, job)
        return
    version = ws.version(job.result["version"])
    receipt = standing.receipt_of(ws, version)
    candidates.decide(ws, project, version)
    if receipt is not None and (said := missed(job.task.get("plan", {}), receipt.table)):
        st.warning(said, icon=":material/straighten:")
    with st.container(border=True):
        icon = ":material/pending:" if version.candidate else ":material/check_circle:"
        st.markdown(f"{icon} **{plain(job.title)}**")
        if receipt is not None:
            results.sentences(tell(receipt))
        if st.button(_("See before/after"), type="primary", icon=":material/compare_arrows:"):
            shell.go("compare", project=project.id, version=job.result["version"])


def missed(plan: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> str:
    """That a size which was asked for was not reached, and why; "" where it was, or none was asked for."""
    asked = plan.get("parameters", {}).get("kilobytes")
    size = next((row for row in table if row["metric"] == "bytes"), None)
    if asked is None or size is None or size["after"] <= 1000 * asked:
        return ""
    return _(
        "{asked} were asked for and {reached} reached: smaller, the guard would have gone back. Allow more to be lost, "
        "or give it more epochs."
    ).format(asked=format.size(1000 * asked), reached=format.size(size["after"]))


def leave(job: Job, label: str, icon: str) -> None:
    """Once it has ended, the way back to what the page is for."""
    if not job.active and st.button(label, icon=icon, type="tertiary"):
        del st.query_params[JOB]
        st.rerun()
