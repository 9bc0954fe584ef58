"""Which neurons carry which class: slices at a threshold, how they overlap, and what no class needs."""

import pandas as pd
import streamlit as st

from surgery import charts, jobs
from surgery.ui import panels, progress, selection, shell, slicing
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.slicing import Members, Sliced

view = shell.page("slices", needs=("version", "dataset"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
dark = st.context.theme.type == "dark"
SCORES = {
    "taylor": _("Effect on the loss"),
    "deeplift": _("Effect on the answer"),
    "avg": _("Mean activation"),
    "var": _("Variance"),
    "ens": _("Mean and variance"),
}
PAPER = {"taylor": "Taylor", "deeplift": "DeepLIFT", "avg": "Avg", "var": "Var", "ens": "Ens"}


def look_first() -> None:
    """Offer the job that finds the slices, and show it running in place."""
    running = [
        job
        for job in jobs.jobs(ws, project.id)
        if job.kind == "criticality" and job.task.get("version") == version.id and job.task["dataset"] == dataset.id
    ]
    latest = max(running, key=lambda job: job.number, default=None)
    if latest is not None and latest.state != "done":
        progress.watch(ws, latest)
        return
    panels.empty(_("Nobody has asked yet which neurons each class needs: one pass over the data shows it."))
    if st.button(_("Find slices"), type="primary", icon=":material/view_week:"):
        task = {"kind": "criticality", "version": version.id, "dataset": dataset.id, "params": {}}
        jobs.submit(ws, task, project=project.id, title=_("Slices of v{number}").format(number=version.number))
        st.rerun()


def controls() -> tuple[str, str, float]:
    """Score, fill and threshold; the URL keeps all three."""
    first, second, third = st.columns([3, 2, 4], gap="medium", vertical_alignment="bottom")
    score = first.selectbox(
        _("Neurons matter by"),
        list(SCORES),
        format_func=lambda name: SCORES[name],
        key="score",
        bind="query-params",
        help=_("The contribution score that ranks the neurons of a layer: {names}.").format(
            names=", ".join(f"{SCORES[name]} = {PAPER[name]}" for name in SCORES)
        ),
    )
    fill = second.segmented_control(
        _("Neurons outside give"),
        ["mean", "zero"],
        format_func=lambda name: {"mean": _("their mean"), "zero": _("zero")}[name],
        default="mean",
        required=True,
        key="fill",
        bind="query-params",
    )
    theta = third.slider(
        _("Keep less ↔ keep more"),
        0.5,
        0.999,
        0.95,
        0.001,
        format="%.3f",
        key="theta",
        bind="query-params",
        help=_(
            "Θ: a slice is the fewest neurons of each layer with which the layer's output stays this similar "
            "(mean cosine) to its full output on the class."
        ),
    )
    return str(score), str(fill), float(theta)


def free(sliced: Sliced, members: Members, score: str) -> None:
    """What can go by either rule: needed by no class at the threshold, or least important over all layers."""
    needed = members.any(1)
    count = int((~needed).sum())
    text = plural("{count} neuron is needed by no class", "{count} neurons are needed by no class", count)
    of_all = _("of {all:,} at this threshold.").format(all=len(needed))
    st.markdown(f"**{text}** {of_all}")
    reason = None if count else _("Every neuron is needed by some class: move the slider towards keep less.")
    label = plural("Take {count} neuron", "Take {count} neurons", count)
    if st.button(label, icon=":material/filter_alt:", disabled=not count, help=reason, key="free"):
        take(sliced, ~needed)
    share = st.slider(
        _("Or the least important of all layers together"),
        0,
        60,
        20,
        1,
        format="%d %%",
        key="share",
        bind="query-params",
        help=_(
            "All neurons are ranked by the class they matter most to. In networks where every layer needs most of its "
            "neurons the threshold frees nothing; this ranking frees any share."
        ),
    )
    least = sliced.least(score, share / 100)
    label = plural("Take the least {count}", "Take the least {count}", int(least.sum()))
    reason = None if least.any() else _("Move the slider to the right.")
    if st.button(label, icon=":material/filter_alt:", disabled=not least.any(), help=reason, key="least"):
        take(sliced, least)


def take(sliced: Sliced, chosen: Members) -> None:
    """Take neurons in hand and show them on the map."""
    ids = sliced.ids(chosen)
    selection.choose(view, ids)
    shell.go("neurons", view, **{name: value for name, value in st.query_params.items() if name == "neurons"})


def one_slice(sliced: Sliced, members: Members) -> None:
    """A table of the classes' slices, and one of them to take or to save."""
    classes = sliced.seen.classes
    alone = members & (members.sum(1, keepdims=True) == 1)
    table = pd.DataFrame(
        {
            _("class"): list(classes),
            _("neurons in its slice"): members.sum(0),
            _("% of all"): (100 * members.mean(0)).round(1),
            _("that only it needs"): alone.sum(0),
        }
    )
    st.dataframe(table, hide_index=True, height=min(37 + 35 * len(classes), 390))
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    place = left.selectbox(_("Class"), range(len(classes)), format_func=lambda c: plain(classes[c]), key="class")
    which = right.segmented_control(
        _("Neurons"),
        ["slice", "only"],
        format_func=lambda name: {"slice": _("its slice"), "only": _("only it needs")}[name],
        default="slice",
        required=True,
        key="which",
    )
    chosen = (alone if which == "only" else members)[:, place]
    count = int(chosen.sum())
    reason = None if count else _("There are none at this threshold.")
    with st.container(horizontal=True):
        label = plural("Take {count} neuron", "Take {count} neurons", count)
        if st.button(label, icon=":material/filter_alt:", disabled=not count, help=reason, key="take"):
            take(sliced, chosen)
        if st.button(_("Save as selection"), icon=":material/bookmark_add:", disabled=not count, help=reason):
            name = _("{name}: slice at {theta}") if which == "slice" else _("{name}: needed by it alone at {theta}")
            name = name.format(name=classes[place], theta=f"{st.session_state['theta']:.3f}")
            ws.save_selection(project.id, version.id, name, sliced.ids(chosen))
            st.toast(_("Saved as {name}.").format(name=plain(name)), icon=":material/bookmark_added:")


def show(sliced: Sliced) -> None:
    """Everything at one threshold."""
    score, fill, theta = controls()
    members = sliced.members(score, fill, theta)
    classes = list(sliced.seen.classes)
    left, right = st.columns([3, 2], gap="large")
    layers, shares = sliced.shares(members)
    with left, panels.panel():
        figure = charts.heat(shares, layers, classes, title=_("Share of each layer that a class needs"), dark=dark)
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, alt=_("Heatmap of layers over classes"), key="heat")
        if len(classes) > 1:
            together = slicing.overlap(members)
            figure = charts.heat(together, classes, classes, title=_("How much two classes share"), dark=dark)
            st.plotly_chart(figure, theme=None, config=charts.CONFIG, alt=_("Overlap of classes"), key="overlap")
        frame = pd.DataFrame(shares, index=pd.Index(layers, name="layer"), columns=classes)
        st.download_button(_("Table as CSV"), frame.to_csv(), "slices.csv", "text/csv", icon=":material/download:")
    with right, panels.panel():
        free(sliced, members, score)
        st.divider()
        one_slice(sliced, members)
    st.caption(
        _(
            "Effects are measured on {samples}, similarity on at most 1,000 of them, means and variances on all "
            "{all:,} that were scanned; a neuron counts once with those coupled to it. "
            "A slice says what a class's layers need to look the same, not yet what its accuracy is without the rest: "
            "take neurons to the map and the what-if measures that."
        ).format(samples=plural("{count} sample", "{count} samples", sliced.samples), all=sliced.seen.samples)
    )


with panels.panel():
    support = ws.inspect(version.id)["support"]
    sliced = slicing.of(view)
    if support["level"] == "inspect":
        panels.unsupported(_("The neurons of this network cannot be told apart:"), plain(support["reason"]))
    elif sliced is None:
        look_first()
    else:
        show(sliced)
