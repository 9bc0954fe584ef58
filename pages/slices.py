"""Which neurons carry which class: slices at a threshold, what they are worth, and what no class needs."""

import numpy as np
import pandas as pd
import streamlit as st

from surgery import jobs
from surgery.analysis.overlap import Members, jaccard
from surgery.ui import panels, progress, shell, slice_cells, slice_groups, slice_worth, slicing, taking
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.slicing import Cut, Sliced

view = shell.page("slices", needs=("version", "dataset"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
SCORES = {
    "taylor": _("Effect on the loss"),
    "deeplift": _("Effect on the answer"),
    "avg": _("Mean activation"),
    "var": _("Variance"),
    "ens": _("Mean and variance"),
}
PAPER = {"taylor": "Taylor", "deeplift": "DeepLIFT", "avg": "Avg", "var": "Var", "ens": "Ens"}
CRITERIA = {"cosine": _("direction"), "cka": _("structure"), "mass": _("share of the score")}
FILLS = {"mean": _("their mean"), "zero": _("zero")}
PARTS = {
    "take": _("Take neurons"),
    "worth": _("Accuracy of slices"),
    "scores": _("Compare scores"),
    "groups": _("What belongs together"),
}


def look_first() -> None:
    """Offer the job that finds the slices, and show it running in place."""
    task = {"kind": "criticality", "version": version.id, "dataset": dataset.id}
    if progress.watch_latest(ws, project.id, task):
        return
    panels.empty(_("Nobody has asked yet which neurons each class needs: one pass over the data shows it."))
    if st.button(_("Find slices"), type="primary", icon=":material/view_week:"):
        title = _("Slices of v{number}").format(number=version.number)
        jobs.submit(ws, {**task, "params": {}}, project=project.id, title=title)
        st.rerun()


def controls(sliced: Sliced) -> Cut:
    """Threshold, score, similarity and fill; the URL keeps all four."""
    first, second, third, fourth = st.columns([4, 3, 2, 2], gap="medium", vertical_alignment="bottom")
    theta = first.slider(
        _("Keep less ↔ keep more"),
        0.5,
        0.999,
        0.95,
        0.001,
        format="%.3f",
        key="theta",
        bind="query-params",
        help=_(
            "Θ: a slice is the fewest neurons of each layer with which the layer's output stays this similar to its "
            "full output on the class."
        ),
    )
    score = second.selectbox(
        _("Neurons matter by"),
        list(SCORES),
        format_func=lambda name: SCORES[name],
        key="score",
        bind="query-params",
        help=_("The contribution score that ranks the neurons of a layer: {names}.").format(
            names=", ".join(f"{SCORES[name]} = {PAPER[name]}" for name in SCORES)
        ),
    )
    criterion = third.selectbox(
        _("Similar in"),
        sliced.criteria,
        format_func=lambda name: CRITERIA[name],
        key="criterion",
        bind="query-params",
        help=_("Direction: mean cosine. Structure: debiased CKA over samples. Share of the score: its summed mass."),
    )
    fill = fourth.segmented_control(
        _("Neurons outside give"),
        list(FILLS),
        format_func=lambda name: FILLS[name],
        default="mean",
        required=True,
        key="fill",
        bind="query-params",
    )
    return Cut(str(score), str(criterion), str(fill), round(float(theta), 3))


def summary(sliced: Sliced, members: Members) -> None:
    """The slices in one sentence."""
    words = [
        _("At this threshold a class needs **{share} %** of the neurons on average").format(
            share=f"{100 * members.mean():.0f}"
        )
    ]
    classes = sliced.seen.classes
    if len(classes) > 1:
        shared = np.tril(jaccard(members), -1)
        one, other = np.unravel_index(int(shared.argmax()), shared.shape)
        words.append(
            _("**{one}** and **{other}** share most ({share} %)").format(
                one=plain(classes[int(other)]), other=plain(classes[int(one)]), share=f"{100 * shared.max():.0f}"
            )
        )
    count = int((~members.any(1)).sum())
    words.append(
        plural("**{count} neuron** is needed by no class", "**{count} neurons** are needed by no class", count)
    )
    st.markdown("; ".join(words) + ".")


def free(sliced: Sliced, members: Members, score: str) -> None:
    """What can go by either rule: needed by no class at the threshold, or least important over all layers."""
    st.markdown(f"**{_('What can go')}**")
    ids = sliced.ids(~members.any(1))
    label = plural("Take {count} neuron that no class needs", "Take {count} neurons that no class needs", len(ids))
    reason = None if ids else _("Every neuron is needed by some class: move the slider towards keep less.")
    taking.take(view, ids, label, reason=reason, key="free")
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
    ids = sliced.ids(sliced.least(score, share / 100))
    label = plural("Take the least {count}", "Take the least {count}", len(ids))
    taking.take(view, ids, label, reason=None if ids else _("Move the slider to the right."), key="least")


def one_slice(sliced: Sliced, members: Members, cut: Cut) -> None:
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
    st.dataframe(table, hide_index=True)
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
    name = _("{name}: slice at {theta}") if which == "slice" else _("{name}: needed by it alone at {theta}")
    name = name.format(name=classes[place], theta=f"{cut.theta:.3f}")
    taking.offer(view, sliced.ids(chosen), name, key="slice")


def part(sliced: Sliced, members: Members, cut: Cut) -> None:
    """One of the four parts below the grids."""
    chosen = st.segmented_control(
        _("Go on with"),
        list(PARTS),
        format_func=lambda name: PARTS[name],
        default="take",
        required=True,
        key="part",
        bind="query-params",
        label_visibility="collapsed",
    )
    with panels.panel():
        if chosen == "worth":
            slice_worth.accuracy(view, sliced, cut)
        elif chosen == "scores":
            slice_worth.comparison(view, sliced, SCORES)
        elif chosen == "groups":
            slice_groups.classes(view, sliced, members, cut)
            slice_groups.layers(sliced)
        else:
            left, right = st.columns([3, 2], gap="large")
            with left:
                one_slice(sliced, members, cut)
            with right:
                free(sliced, members, cut.score)


def show(sliced: Sliced) -> None:
    """Everything at one threshold."""
    cut = controls(sliced)
    members = sliced.at(cut)
    summary(sliced, members)
    left, right = st.columns(2, gap="large")
    with left, panels.panel():
        slice_cells.layers(view, sliced, members, cut)
    if len(sliced.seen.classes) > 1:
        with right, panels.panel():
            slice_cells.pairs(view, sliced, members, cut)
    part(sliced, members, cut)
    st.caption(
        _(
            "Effects are measured on {samples}, similarity on at most 1,000 of them, means and variances on all "
            "{all:,} that were scanned; a neuron counts once with those coupled to it."
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
