"""What modules are there: the shelf, how they overlap, and a patch for a weak class from another model's module."""

import streamlit as st

from surgery.measure.interval import share
from surgery.plan import Plan
from surgery.ui import format, goals, model_tab, modules, must_keep, panels, pickers, running, shell
from surgery.ui.messages import _, plural
from surgery.ui.modules import Module
from surgery.ui.panels import plain

view = shell.page("modules", needs=("project", "version"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
DONOR = "donor"  # ?donor=: the module that answers for a weak class
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
            forgotten = modules.cards(ws, [module for module in all_modules if module.version.id == chosen])
            if forgotten is not None:
                query = {"operation": goals.label("forget"), pickers.CLASSES: forgotten.name}
                shell.go("change", project=project.id, version=forgotten.version.id, **query)
    with right, panels.panel():
        modules.overlap(ws, holders[chosen])


def weak_class() -> str:
    """Choose the class to patch, the weakest first, with how sure its recall is."""
    found = model_tab.ask(ws, version.id, dataset.id, "quality")
    if not found["labelled"] or found["task"] != "classification":
        panels.empty(_("Which class is weak can only be told on labelled samples of a classifier."))
        st.stop()
    rows = {row["name"]: row for row in sorted(found["classes"], key=lambda row: row["f1"] or 0.0)}

    chosen = st.selectbox(
        _("Class"), list(rows), key="target", bind="query-params", help=_("The weakest first, by its F1.")
    )
    row = rows[chosen]
    low, high = share(round((row["recall"] or 0.0) * row["n"]), row["n"])
    st.caption(
        _("F1 {f1}; finds {recall} of {n} samples, between {low} and {high} % of all").format(
            f1=format.percent(row["f1"]),
            recall=format.percent(row["recall"]),
            n=row["n"],
            low=f"{100 * low:.0f}",
            high=f"{100 * high:.0f}",
        )
    )
    return str(chosen)


def patch(all_modules: list[Module]) -> None:
    """Choose class, module and calibration on the left; what it would do on the right."""
    left, right = st.columns([4, 9], gap="large")
    with left, panels.panel():
        target = weak_class()
        donors = modules.donors(ws, version, dataset.id, target, all_modules)
        if not donors:
            panels.empty(_("No other version has a module that could answer for {name}.").format(name=target))
            st.caption(_("Bring a stronger model into this project and split it, or choose another class."))
            return
        chosen = donor(target, donors)
        calibration = st.selectbox(
            _("Calibration"), list(CALIBRATIONS), format_func=CALIBRATIONS.get, key="calibration", bind="query-params"
        )
        others = st.number_input(
            _("Accuracy of the others that may be lost (points)"),
            0.0, 100.0, 0.5, 0.1, key="others", bind="query-params",
        )  # fmt: skip
        preserve = must_keep.required(ws, dataset.id)
        device = pickers.device(view, key="device")
    called = "" if chosen.name == target else chosen.name
    plan = Plan(
        operation="patch",
        parameters={
            "target": target,
            "called": called,
            "module": chosen.digest,
            "calibration": calibration,
            "others": others,
        },
        inputs=(version.id, chosen.version.id),
        dataset=dataset.id,
        preserve=preserve,
        device=device,
    )
    with right, panels.panel():
        title = _("Patch {name} with v{number}").format(name=target, number=chosen.version.number)
        running.look_ahead(ws, project, plan, version.neurons, title=title, icon=":material/healing:")


def donor(target: str, donors: dict[str, tuple[Module, float]]) -> Module:
    """Choose the module that answers for the class; the URL's, else the best."""
    linked = st.query_params.get(DONOR, "")
    key = st.selectbox(
        _("Module that answers for it"),
        list(donors),
        index=list(donors).index(linked) if linked in donors else 0,
        format_func=lambda key: modules.named(donors[key][0], target, donors[key][1]),
        key=f"donor_{target}_{version.id}",
        help=_("The best first: F1 on validation samples of this project's dataset, at the module's own threshold."),
    )
    st.query_params[DONOR] = str(key)
    return donors[str(key)][0]


def compose(all_modules: list[Module]) -> None:
    """What is picked, and what it would make."""
    picked = modules.picked(all_modules)
    st.markdown(f"##### {_('Compose a new model')}")
    with st.container(horizontal=True, vertical_alignment="center"):
        names = ", ".join(f"{one.name} (v{one.version.number})" for one in picked)
        st.markdown(plain(names) if picked else _("Tick the classes of the new model on their cards."), width="stretch")
        if st.button(_("Best of each class"), icon=":material/done_all:", help=_("By F1 on validation samples.")):
            modules.pick(modules.best(all_modules))
            st.rerun()
        if picked and st.button(_("None"), icon=":material/close:", key="pick_none"):
            modules.pick([])
            st.rerun()
    holders = {one.version.id for one in picked}
    if len(holders) == 1 and len(picked) < len([one for one in all_modules if one.version.id in holders]):
        prune(picked)
    if len(picked) < 2:
        return
    inputs = list(dict.fromkeys(one.version.id for one in picked))
    plan = Plan(
        operation="compose",
        parameters={"modules": [one.digest for one in picked]},
        inputs=tuple(inputs),
        dataset=dataset.id,
    )
    with panels.panel():
        title = _("Compose {count} modules").format(count=len(picked))
        running.look_ahead(ws, project, plan, version.neurons, title=title, icon=":material/join:")


def prune(picked: list[Module]) -> None:
    """Offer to prune what only these modules need, by way of a saved selection."""
    ids, holder = modules.only(ws, picked), picked[0].version
    label = plural("Prune {count} neuron that only these need", "Prune {count} neurons that only these need", len(ids))
    why = None if ids else _("The other modules of this version need all of their neurons too.")
    if st.button(label, icon=":material/content_cut:", disabled=not ids, help=why, key="prune_only"):
        name = _("Only needed by {names}").format(names=", ".join(one.name for one in picked))
        saved = ws.save_selection(project.id, holder.id, name[:120], ids)
        shell.go("change", project=project.id, version=holder.id, **{pickers.SAVED: saved.id})


with panels.panel():
    found = modules.shelf(ws, ws.versions(project.id))
    job = running.here(ws)
    if job is not None:
        running.watch(ws, project, job)
        running.leave(job, _("Go on"), ":material/arrow_back:")
    elif not found and dataset is not None and dataset.kind == "text":
        panels.empty(_("Modules tell classes apart; a language model has none."))
    elif not found:
        panels.empty(_("No model of this project was split yet: each class's module would lie here."))
        if st.button(_("Split a model"), type="primary", icon=":material/call_split:"):
            shell.go("change", view, operation=goals.label("split"))
    else:
        shelf_of(found)
        if dataset is not None:
            compose(found)
            st.markdown(f"##### {_('Patch a weak class of v{number}').format(number=version.number)}")
            patch(found)
