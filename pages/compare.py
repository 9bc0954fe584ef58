"""Did it work: two versions side by side, class by class, with the samples that changed sides."""

import pandas as pd
import streamlit as st

from surgery import change, charts, standing
from surgery.receipt import Receipt, answers, by_turns
from surgery.tell import preserved, tell
from surgery.ui import (
    candidates,
    comparison,
    measured,
    panels,
    pickers,
    pictures,
    progress,
    results,
    shell,
    undo,
    writing,
)
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.workspace import Version

view = shell.page("compare", needs=("version", "dataset"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
MOST_FLIPS = 24


def pair() -> list[Version]:
    """Choose what to compare; at first the version on view with the one it was made from."""
    versions = {each.id: each for each in ws.versions(project.id)}
    child = version
    if version.parent not in versions:
        made = [each for each in versions.values() if each.parent == version.id]
        child = max(made, key=lambda each: each.number, default=version)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        before = pickers.version(
            view, _("Before"), key=f"before_{child.id}", default=st.query_params.get("before") or child.parent
        )
        after = pickers.version(
            view, _("After"), key=f"after_{child.id}", default=st.query_params.get("after") or child.id
        )
        others = [id for id in versions if id not in (before.id, after.id)]
        more = st.multiselect(
            _("Add versions"),
            others,
            format_func=lambda id: pickers.version_name(versions[id]),
            disabled=not others,
            placeholder=_("Add") if others else _("No other version"),
            help=_("Every version is compared with the first one."),
        )
    st.query_params.update(before=before.id, after=after.id)
    return [before, after, *(versions[id] for id in more)]


def only_one() -> None:
    """Nothing to compare yet: the way to the first surgery."""
    panels.empty(_("There is one version so far. Remove some neurons, and both are compared here."))
    if st.button(_("Choose neurons"), type="primary", icon=":material/scatter_plot:"):
        shell.go("neurons", view)


def measure_first(chosen: list[Version]) -> None:
    """These have not been measured side by side: do it, in the background and watched here."""
    job = measured.latest(ws, chosen, dataset.id)
    if job is not None and job.state != "done":
        progress.watch(ws, job)
        return
    names = ", ".join(f"v{each.number}" for each in chosen)
    panels.empty(
        _("{names} have not been measured side by side on {data} yet.").format(names=names, data=plain(dataset.name))
    )
    if st.button(_("Measure them"), type="primary", icon=":material/speed:"):
        measured.submit(ws, chosen, dataset.id)
        st.rerun()


def measures(receipt: Receipt, before: Version, after: Version) -> None:
    """Everything that was measured, each with what it was measured on; and the classes."""
    left, right = st.columns([3, 2], gap="large")
    with left, panels.panel(_("Before and after")):
        table = comparison.overall(receipt.table, f"v{before.number}", f"v{after.number}")
        st.table(table, border="horizontal", hide_index=True)
        if not measured.timed(receipt):
            latency(before, after)
    with right, panels.panel():
        classes = comparison.per_class(receipt.table)
        if not classes.empty:
            figure = charts.before_after(
                classes, title=_("Accuracy per class"), unit="%", dark=st.context.theme.type == "dark"
            )
            st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="classes", alt=_("Accuracy per class"))


def latency(before: Version, after: Version) -> None:
    """Offer to measure what the receipt does not say because it depends on the machine."""
    job = measured.latest(ws, [before, after], dataset.id)
    if job is not None and job.state != "done":
        progress.watch(ws, job)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(_("Latency depends on the machine and was not measured on this one."), width="content")
        if st.button(_("Measure latency"), icon=":material/timer:", type="tertiary"):
            measured.submit(ws, [before, after], dataset.id)
            st.rerun()


def flips(receipt: Receipt) -> None:
    """The samples that changed sides, both ways."""
    if not receipt.dataset.get("classes") or receipt.dataset.get("task") != "classification":
        return
    left, right = st.columns(2, gap="large")
    with left, panels.panel():
        _flipped(receipt, "lost", _("Regressions (correct → wrong)"))
    with right, panels.panel():
        _flipped(receipt, "won", _("Fixes (wrong → correct)"))


def cases(receipt: Receipt) -> None:
    """The must-keep cases that the plan was held to, and those that it broke."""
    if not receipt.cases:
        return
    with panels.panel():
        icon = ":material/gpp_maybe:" if receipt.cases["broken"] else ":material/verified_user:"
        st.markdown(f"##### {icon} {preserved(receipt.cases)}")
        if receipt.cases["broken"]:
            classes = receipt.dataset["classes"]
            shown = [Shown(flip["sample"], answers(flip, classes)) for flip in receipt.cases["broken"]]
            data = ws.dataset(str(receipt.plan["dataset"]))
            pictures.samples(data, shown[:MOST_FLIPS], columns=8, width=640, key="broken_cases")


def _flipped(receipt: Receipt, which: str, title: str) -> None:
    found = receipt.flips[which]
    count = receipt.flips[f"{which}_count"]
    st.markdown(f"##### {title}: {count:,}")
    if not found:
        st.caption(_("None."))
        return
    classes = receipt.dataset["classes"]
    shown = [Shown(flip["sample"], answers(flip, classes)) for flip in by_turns(found, MOST_FLIPS)]
    st.caption(_("Prediction before → after"))
    pictures.samples(ws.dataset(str(receipt.plan["dataset"])), shown, columns=8, width=640, key=f"flips_{which}")
    pictures.of_how_many(len(shown), count)


def actions(receipt: Receipt, before: Version, after: Version) -> None:
    """Take the result back; the receipt as one file for others, the table for a spreadsheet."""
    with st.container(horizontal=True):
        undo.undo(ws, project, only=after, before=before.id, after=after.id)
        results.download(ws, receipt, after, pickers.version_name(before))
        csv = pd.DataFrame(receipt.table).to_csv(index=False)
        st.download_button(
            _("Table (CSV)"), csv, f"before-after-v{after.number}.csv", "text/csv", icon=":material/table:"
        )


def two(before: Version, after: Version) -> None:
    """Before and after, with classes, flipped samples and the receipt."""
    receipt = measured.receipt(ws, before, after, dataset.id)
    if receipt is None:
        measure_first([before, after])
        return
    with panels.panel():
        results.sentences(tell(receipt), large=True)
        candidates.decide(ws, project, after, before=before.id, after=after.id)
        actions(receipt, before, after)
    measures(receipt, before, after)
    writing.side_by_side(receipt.texts, pickers.version_name(before), pickers.version_name(after))
    cases(receipt)
    flips(receipt)


def many(chosen: list[Version]) -> None:
    """Three or more versions in one table, each set against the first."""
    job = measured.latest(ws, chosen, dataset.id)
    if job is None or job.state != "done":
        measure_first(chosen)
        return
    for other in chosen[1:]:
        if gone := standing.removed_between(ws, chosen[0], other):
            st.markdown(f":orange[:material/remove_circle: v{other.number}: {plain(gone)}]")
    rows = change.seeing(job.result["rows"], project.settings.answer(dataset.id))
    table = measured.side_by_side(rows, chosen)
    st.caption(_("Changes are relative to v{number}.").format(number=chosen[0].number))
    st.table(table, border="horizontal", hide_index=True)
    csv = pd.DataFrame(job.result["rows"]).to_csv(index=False)
    st.download_button(_("Table (CSV)"), csv, "versions.csv", "text/csv", icon=":material/table:")


def compare() -> None:
    """Draw the comparison of the chosen versions, and the proof of an undo."""
    chosen = pair()
    undo.proof(ws, project)
    if chosen[0].id == chosen[1].id:
        panels.empty(_("Before and after are the same version: choose two different ones above."))
    elif len(chosen) == 2:
        two(*chosen)
    else:
        many(chosen)


with panels.panel():
    if len(ws.versions(project.id)) < 2:
        only_one()
    else:
        compare()
