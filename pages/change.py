"""What will this surgery do, and do it: a form, a preview of its effect, a run with its progress in place."""

import streamlit as st

from surgery.jobs import Job
from surgery.operations.base import Operation, Selection, operations
from surgery.plan import Plan
from surgery.ui import (
    frontier,
    goals,
    live_bits,
    must_keep,
    panels,
    pickers,
    progress,
    running,
    selection,
    shell,
    teach,
    trial,
)
from surgery.ui.form import form
from surgery.ui.messages import _

view = shell.page("change", needs=("version", "dataset"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
ICONS = {
    "readapt": ":material/model_training:",
    "extend": ":material/school:",
    "forget": ":material/backspace:",
    "split": ":material/call_split:",
    "damage": ":material/healing:",
}


def choose(in_hand: bool) -> tuple[str, type[Operation]]:
    """Choose a surgery of one model by its goal; with neurons in hand, what can be done to them comes first."""
    text = dataset.kind == "text"
    fitting = {name: one for name, one in operations().items() if one.texts or not text}
    found = {name: operation for name, operation in fitting.items() if operation.takes == 1}
    order = [*goals.goals(), *sorted(found)]
    names = sorted(found, key=order.index)
    first = next((name for name in names if in_hand and takes_neurons(found[name])), names[0])
    name = st.selectbox(
        _("Goal"),
        names,
        index=names.index(first),
        format_func=goals.label,
        key="operation",
        bind="query-params",
    )
    st.caption(panels.plain((found[name].__doc__ or "").split("\n\n")[0]))
    return name, found[name]


def takes_neurons(operation: type[Operation]) -> bool:
    """Whether a surgery cannot do without chosen neurons."""
    return any(field.annotation is Selection and field.is_required() for field in operation.model_fields.values())


def fill_in() -> Plan | None:
    """Draw the form of a surgery and return the plan it makes; None while nothing is chosen."""
    ids = selection.chosen(view, {i: i for i in range(version.neurons)})
    name, operation = choose(bool(ids) or pickers.SAVED in st.query_params)
    new = new_data(name) if operation.learns else ""
    values = form(operation, key=f"{name}_{version.id}", pickers=pickers.pickers(view, ids))
    preserve = must_keep.required(ws, dataset.id)
    device = pickers.device(view, key="device")
    with st.expander(_("More")):
        seed = st.number_input(
            _("Seed"),
            min_value=0,
            value=0,
            step=1,
            key="seed",
            help=_("The same plan with the same seed gives the same weights."),
        )
    if operation.learns and not new:
        return None
    if takes_neurons(operation) and not any(isinstance(one, Selection) and one.ids for one in values.values()):
        return None
    if any(field.is_required() and values[given] == () for given, field in operation.model_fields.items()):
        return None
    parameters = operation.model_validate(values).model_dump(mode="json")
    return Plan(
        operation=name,
        parameters=parameters,
        inputs=(version.id,),
        dataset=dataset.id,
        new=new,
        preserve=preserve,
        seed=int(seed),
        device=device,
    )


def new_data(operation: str) -> str:
    """Choose the dataset to learn from, among those that suit the operation."""
    others = {row.id: row for row in ws.datasets(project.id) if row.id != dataset.id and suits(operation, row.id)}
    if not others:
        st.info(
            _("No other dataset of this project has classes that the model does not know.")
            if operation == "extend"
            else _("There is no other dataset with the model's classes in this project."),
            icon=":material/dataset:",
        )
        return ""
    linked, newest = st.query_params.get("new", ""), list(others)[-1]
    key = f"new_data_{operation}_{dataset.id}"
    if st.session_state.get(f"newest_{key}") not in (None, newest):
        st.session_state[key] = newest  # made while we looked on: it is what was wanted
    st.session_state[f"newest_{key}"] = newest
    chosen = str(
        st.selectbox(
            _("New data"),
            list(others),
            index=list(others).index(linked if linked in others else newest),
            format_func=lambda id: f"{others[id].name} · {others[id].samples:,}",
            key=key,
        )
    )
    st.query_params["new"] = chosen
    if operation != "extend":  # a copy that drifted has no new classes
        with st.expander(_("Trial data")):
            trial.drift(view)
    return chosen


def suits(operation: str, id: str) -> bool:
    """Whether a dataset is what an operation can learn from: new classes to teach, or the model's own."""
    own, other = ws.dataset(dataset.id), ws.dataset(id)
    classes = ws.inspect(version.id)["classes"]
    if (other.kind, other.task) != (own.kind, own.task):
        return False
    strange = set(other.classes) - set(classes) - set(own.classes)
    return bool(strange) if operation == "extend" else not strange or len(other.classes) == len(classes)


def choose_first() -> None:
    """Nothing is chosen: the way to where it can be."""
    name = str(st.session_state.get("operation"))
    if operations()[name].learns:
        bring_first(name)
        return
    if not takes_neurons(operations()[name]):
        panels.empty(_("Choose the classes on the left; the preview then shows what goes with them and who pays."))
        return
    panels.empty(_("Choose the neurons to remove on the map; the preview then shows what goes and which class pays."))
    if st.button(_("Choose neurons"), type="primary", icon=":material/scatter_plot:"):
        shell.go("neurons", view)


def bring_first(operation: str) -> None:
    """There is no new data: bring some, or make a drifted copy for a trial."""
    extends = operation == "extend"
    panels.empty(
        _("Bring samples of the new classes as a dataset of their own.")
        if extends
        else _("Bring the new data as a dataset of its own, or try it on a copy of yours that drifted.")
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.button(_("Bring new data"), type="primary", icon=":material/upload:"):
            shell.go("model_data", view)
        if not extends:
            trial.drift(view)


def watched(job: Job) -> None:
    """The job with its candidates, and what may be made of it afterwards."""
    running.watch(ws, project, job)
    teach.together(ws, job)
    frontier.watch(ws, job)
    live_bits.watch(ws, job)
    if unfinished := progress.latest(ws, project.id, {"kind": "take", "job": job.id}):
        watched(unfinished)
        return
    running.leave(job, _("Prepare another surgery"), ":material/add:")


def plan_and_preview() -> None:
    """The form on the left, what it would do on the right."""
    left, right = st.columns([4, 9], gap="large")
    plan = None
    with left, panels.panel():
        plan = fill_in()
    with right, panels.panel():
        if plan is None:
            choose_first()
        else:
            neurons = version.neurons - len(ws.inspect(version.id)["classes"])
            icon = ICONS.get(plan.operation, ":material/content_cut:")
            running.look_ahead(ws, project, plan, neurons, icon=icon)


with panels.panel():
    job = running.here(ws)
    support = ws.inspect(version.id)["support"]
    if job is not None:
        watched(job)
    elif support["level"] != "full":
        panels.unsupported(_("Nothing can be cut out of this network:"), panels.plain(support["reason"]))
    else:
        plan_and_preview()
