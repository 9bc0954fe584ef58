"""What must never break: the cases that every surgery is held against, as pictures."""

import streamlit as st

from surgery import jobs
from surgery.data import texts
from surgery.errors import SurgeryError
from surgery.ui import model_tab, must_keep, panels, pictures, progress, shell
from surgery.ui.messages import _
from surgery.ui.pictures import Shown

view = shell.page("must_keep", needs=("project", "version", "dataset"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
TASK = {"kind": "must_keep", "dataset": dataset.id}


def draw_form(first: bool) -> None:
    """How many cases, of which kinds; starts the job."""
    text = dataset.kind == "text"
    with st.form("draw_cases", border=not first):
        left, right = st.columns(2)
        size = left.number_input(_("Cases"), 1, 1000, 50)
        least = 0 if text else right.number_input(_("At least of each class"), 0, 100, 1)
        shares = {}
        meanings = {
            "hard": _("The least likely windows.") if text else _("Right, but the least sure."),
            "typical": _("Right, with the strongest evidence for the answer (Grad-CAM mass)."),
            "diverse": _("Right, and spread over what there is (k-means)."),
        }
        for column, (kind, meaning) in zip(st.columns(3), meanings.items(), strict=True):
            start = {"hard": 40, "typical": 30, "diverse": 30}[kind]
            shares[kind] = column.number_input(must_keep.kinds()[kind] + " (%)", 0, 100, start, help=meaning)
        sent = st.form_submit_button(
            _("Draw cases") if first else _("Draw again, pinned ones stay"), type="primary", icon=":material/casino:"
        )
    if sent:
        task = {**TASK, "version": version.id, "size": int(size), "least": int(least), "shares": shares}
        title = _("Draw must-keep cases with v{number}").format(number=version.number)
        jobs.submit(ws, task, project=project.id, title=title)
        st.rerun()


def draw_in_place() -> bool:
    """Draw the last job that draws cases, unless it is done; whether it still goes on."""
    job = progress.latest(ws, project.id, TASK)
    if job is not None and job.state != "done":
        progress.watch(ws, job)
    return job is not None and job.active


def upload() -> None:
    """Pins from a file."""
    given = st.file_uploader(
        _("Or a CSV of sample ids"), type="csv", key="must_keep_csv", max_upload_size=1, help=_("A column “sample”.")
    )
    if given is not None and st.button(_("Pin these"), icon=":material/push_pin:"):
        must_keep.change(ws, must_keep.latest(ws, dataset.id), dataset.id, add=must_keep.read_ids(given.getvalue()))
        st.rerun()


def candidates() -> None:
    """The samples that the version is most wrong about: ticked ones are pinned."""
    found = model_tab.ask(ws, version.id, dataset.id, "quality")
    data, state = ws.dataset(dataset.id), must_keep.latest(ws, dataset.id)
    known = state.cases if state else {}
    worst = [row["sample"] for row in found.get("worst", ()) if row["sample"] not in known]
    if not worst:
        return
    st.markdown(f"##### {_('Pin by hand')}")
    st.caption(_("The samples with the largest loss now. More can be pinned below the samples on Neurons."))
    shown = [Shown(id, pictures.label(data, id)) for id in worst]
    chosen = must_keep.ticks(data, shown, key=f"worst_{state.number if state else 0}", ticked=False)
    if chosen and st.button(_("Pin {count} cases").format(count=len(chosen)), icon=":material/push_pin:"):
        must_keep.change(ws, state, dataset.id, add=chosen)
        st.rerun()


def by_phrase() -> None:
    """Windows of a text in which a phrase occurs: ticked ones are pinned."""
    data, state = ws.dataset(dataset.id), must_keep.latest(ws, dataset.id)
    phrase = st.text_input(
        _("Pin what contains"), key="phrase", bind="query-params", placeholder=_("a phrase that it must not unlearn")
    )
    if not phrase:
        return
    known = state.cases if state else {}
    found = [int(id) for id in texts.containing(data, phrase) if id not in known]
    if not found:
        st.caption(_("No window of validation or training contains it, or all that do are pinned."))
        return
    shown = [Shown(id, pictures.label(data, id)) for id in found]
    chosen = must_keep.ticks(data, shown, key=f"phrase_{state.number if state else 0}", ticked=True)
    if chosen and st.button(
        _("Pin {count} cases").format(count=len(chosen)), icon=":material/push_pin:", key="by_phrase"
    ):
        must_keep.change(ws, state, dataset.id, add=chosen)
        st.rerun()


def the_set() -> None:
    """The present state as pictures, what it covers, and its history."""
    states = ws.must_keep(dataset.id)
    state, data = states[0], ws.dataset(dataset.id)
    st.markdown(f"#### {must_keep.summary(state)}")
    with st.spinner(_("Looking at the cases …")):
        answer = must_keep.covered(ws, version.id, dataset.id, state.ids)
    st.markdown(
        _("No surgery may make one of these much less likely; they are never in test.")
        if dataset.kind == "text"
        else _(
            "v{number} gets {right} of {all} right. No surgery may break one of these; they are never in test."
        ).format(number=version.number, right=len(answer["right"]), all=len(state.ids))
    )
    must_keep.coverage(answer)
    kept = []
    for kind, name in must_keep.kinds().items():
        shown = [Shown(id, pictures.label(data, id)) for id in state.ids if state.cases[id] == kind]
        if shown:
            st.markdown(f"**{name}** · {len(shown)}")
            kept += must_keep.ticks(data, shown, key=f"case_{state.number}", ticked=True)
        if rest := shown[must_keep.MOST_CLICKED :]:
            st.caption(_("and {count} more").format(count=len(rest)))
            kept += [each.sample for each in rest]
    gone = [id for id in state.ids if id not in kept]
    if gone and st.button(_("Let go of {count}").format(count=len(gone)), icon=":material/remove_circle:"):
        must_keep.change(ws, state, dataset.id, add=[], drop=gone)
        st.rerun()
    with st.expander(_("History: state {number}").format(number=state.number), icon=":material/history:"):
        for later, earlier in zip(states[:10], [*states[1:11], None], strict=False):
            said = f"{later.number} · {later.created:%Y-%m-%d %H:%M} UTC · {later.made_by} · {must_keep.summary(later)}"
            st.caption(f"{panels.plain(said)} · `{later.digest}`")
            if earlier is not None and later is state:
                must_keep.difference(data, earlier, later)


with panels.panel():
    if dataset.task == "unlabelled":
        panels.empty(_("Must-keep cases need labels, and this dataset has none."))
    elif not draw_in_place():
        if must_keep.latest(ws, dataset.id) is None:
            st.markdown(_("The cases that must never break, whatever is done. Every surgery can be held to them."))
            draw_form(first=True)
        else:
            the_set()
            with st.expander(_("Draw again"), icon=":material/casino:"):
                draw_form(first=False)
        try:
            upload()
        except SurgeryError as error:
            st.error(str(error), icon=":material/error:")
        if dataset.kind == "text":
            by_phrase()
        candidates()
