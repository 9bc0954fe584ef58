"""What modules are there: the shelf, how they overlap, and a patch for a weak class from another model's module."""

import streamlit as st

from surgery import jobs
from surgery.errors import NotFoundError
from surgery.jobs import Job
from surgery.measure.interval import share
from surgery.plan import Plan
from surgery.receipt import sentence
from surgery.ui import format, model_tab, modules, panels, preview, progress, shell
from surgery.ui.messages import _
from surgery.ui.modules import Module
from surgery.ui.panels import plain

view = shell.page("modules", needs=("project", "version"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
CALIBRATIONS = {
    "affine": _("Slope and threshold, others held"),
    "temperature": _("Sigmoid of fitted width"),
    "sigmoid": _("Sigmoid as it is (GradSplitter)"),
    "min-max": _("Min–max (CNNSplitter)"),
}


def shelf_of(all_modules: list[Module]) -> None:
    """The modules of one version as cards, or all as a table."""
    holders = {module.version.id: module.version for module in all_modules}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        form = st.segmented_control(
            _("Shelf"), ["cards", "table"], default="cards", format_func={"cards": _("Cards"), "table": _("Table")}.get,
            key="shelf", bind="query-params", required=True,
        )  # fmt: skip
        chosen = st.selectbox(
            _("Version"),
            list(holders),
            index=list(holders).index(version.id) if version.id in holders else 0,
            format_func=lambda id: f"v{holders[id].number} {holders[id].name}",
            key="holder",
            bind="query-params",
            width=320,
        )
    left, right = st.columns([3, 2], gap="medium")
    with left, panels.panel():
        if form == "table":
            modules.table(all_modules)
        else:
            modules.cards([module for module in all_modules if module.version.id == chosen])
    with right, panels.panel():
        modules.overlap(ws, holders[chosen])


def weak_class() -> str:
    """Choose the class to patch, the weakest first, with how sure its recall is."""
    found = model_tab.ask(ws, version.id, dataset.id, "quality")
    if not found["labelled"] or found["task"] != "classification":
        panels.empty(_("Which class is weak can only be told on labelled samples of a classifier."))
        st.stop()
    rows = {row["name"]: row for row in sorted(found["classes"], key=lambda row: row["f1"] or 0.0)}

    def worded(name: str) -> str:
        row = rows[name]
        low, high = share(round((row["recall"] or 0.0) * row["n"]), row["n"])
        return _("{name} · F1 {f1}, finds {recall} ({low}–{high}) of {n}").format(
            name=name,
            f1=format.percent(row["f1"]),
            recall=format.percent(row["recall"]),
            low=f"{100 * low:.0f}",
            high=f"{100 * high:.0f}",
            n=row["n"],
        )

    return str(st.selectbox(_("Weak class"), list(rows), format_func=worded, key="target", bind="query-params"))


def patch(all_modules: list[Module]) -> None:
    """Choose class, module and calibration on the left; what it would do on the right."""
    left, right = st.columns([4, 9], gap="large")
    with left, panels.panel():
        target = weak_class()
        donors = {one.key: one for one in all_modules if one.name == target and one.version.id != version.id}
        if not donors:
            panels.empty(_("No other version has a module for {name}.").format(name=target))
            st.caption(_("Bring a stronger model into this project and split it, or choose another class."))
            return
        best = sorted(donors, key=lambda key: -donors[key].figures["f1"])
        chosen = donors[
            st.selectbox(
                _("Module that answers for it"),
                best,
                format_func=lambda key: (
                    f"v{donors[key].version.number} {donors[key].version.name} · "
                    f"F1 {format.percent(donors[key].figures['f1'])}"
                ),
                key=f"donor_{target}",
            )
        ]
        calibration = st.selectbox(
            _("Calibration"), list(CALIBRATIONS), format_func=CALIBRATIONS.get, key="calibration", bind="query-params"
        )
        others = st.number_input(
            _("Accuracy of the others that may be lost (points)"), 0.0, 100.0, 0.5, 0.1, key="others"
        )
    plan = Plan(
        operation="patch",
        parameters={"target": target, "module": chosen.digest, "calibration": calibration, "others": others},
        inputs=(version.id, chosen.version.id),
        dataset=dataset.id,
    )
    with right, panels.panel():
        look_ahead(plan, chosen)


def look_ahead(plan: Plan, donor: Module) -> None:
    """Preview the patch, offer to make it and to take its plan along."""
    place = st.empty()
    with place, panels.loading(320):
        answer = preview.ask(ws, plan)
    with place.container():
        preview.show(answer, version.neurons)
        title = _("Patch {name} with v{number}").format(name=plan.parameters["target"], number=donor.version.number)
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button(title, type="primary", icon=":material/healing:"):
                job = jobs.submit(
                    ws, {"kind": "plan", "plan": plan.model_dump(mode="json")}, project=project.id, title=title
                )
                st.query_params["job"] = job.id
                st.rerun()
            st.caption(
                _("about {time}; v{number} stays as it is").format(
                    time=format.seconds(answer["job_seconds"]), number=version.number
                ),
                width="stretch",
            )
            st.download_button(
                _("Plan (JSON)"), plan.model_dump_json(indent=2), "plan.json", "application/json",
                icon=":material/download:",
            )  # fmt: skip


def watched(job: Job) -> None:
    """Progress while it runs; at its end the way to before and after."""
    if job.state != "done":
        progress.watch(ws, job)
    else:
        receipt = ws.receipt(job.result["version"]) or {"table": []}
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/check_circle: **{plain(job.title)}**  \n{plain(sentence(receipt['table']))}")
            if st.button(_("See before/after"), type="primary", icon=":material/compare_arrows:"):
                shell.go("compare", project=project.id, version=job.result["version"])
    if not job.active and st.button(_("Go on"), icon=":material/arrow_back:", type="tertiary"):
        del st.query_params["job"]
        st.rerun()


def job_here() -> Job | None:
    """The job that was started here, named by the URL."""
    named = st.query_params.get("job")
    try:
        return jobs.status(ws, named) if named else None
    except NotFoundError:
        del st.query_params["job"]
        return None


with panels.panel():
    found = modules.shelf(ws, ws.versions(project.id))
    job = job_here()
    if job is not None:
        watched(job)
    elif not found:
        panels.empty(_("No model of this project was split yet: each class's module would lie here."))
        if st.button(_("Split a model"), type="primary", icon=":material/call_split:"):
            shell.go("change", view, operation="split")
    else:
        shelf_of(found)
        if dataset is not None:
            st.markdown(f"##### {_('Patch a weak class of v{number}').format(number=version.number)}")
            patch(found)
