"""What could models share: their layers side by side, shares for a memory budget, fleets and their guard."""

import streamlit as st

from surgery.ui import fleets, panels, pickers, progress, running, sharing, shell, similar
from surgery.ui.messages import _

view = shell.page("similarity", needs=("project", "version", "dataset"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset
MEMBERS = "members"  # ?members=: version ids
LOOK = "look"  # ?look=layers, share or fleets
MOST = 4  # chosen at first


def members() -> list:
    """The versions that are looked at: those that the URL names, else the models that were brought."""
    known = {one.id: one for one in ws.versions(project.id)}
    linked = [id for id in st.query_params.get_all(MEMBERS) if id in known]
    brought = [one.id for one in known.values() if one.parent is None][:MOST]
    if not linked and version.id not in brought:
        brought = [version.id, *brought][:MOST]
    chosen = st.multiselect(
        _("Models"),
        list(known),
        default=linked or brought,
        format_func=lambda id: pickers.version_name(known[id]),
        key=f"members_{project.id}",
        help=_("Versions of this project; bring other models on Model & data."),
    )
    st.query_params[MEMBERS] = chosen
    return [known[id] for id in chosen]


with panels.panel():
    job = running.here(ws)
    if job is not None and job.state != "done":
        progress.watch(ws, job)
        running.leave(job, _("Back"), ":material/arrow_back:")
        st.stop()
    if job is not None:
        st.query_params[fleets.FLEET] = job.result.get("fleet", "")
        st.query_params[LOOK] = "fleets"
        del st.query_params[running.JOB]
    chosen = members()
    looks = {"layers": _("Layers"), "share": _("Share"), "fleets": _("Fleets")}
    linked = st.query_params.get(LOOK, "layers")
    look = st.segmented_control(
        _("Look at"),
        list(looks),
        default=linked if linked in looks else "layers",
        format_func=looks.get,
        key=f"look_{linked}",
        required=True,
        label_visibility="collapsed",
    )
    st.query_params[LOOK] = look
    if look == "fleets":
        fleet = fleets.choose(view)
        if fleet is None:
            panels.empty(_("No models of this project share yet. Look for shares first."))
        else:
            fleets.draw(view, fleet)
        fleets.trashed(view)
    elif len(chosen) < 2:
        panels.empty(_("One model alone has nobody to share with: choose two or more."))
        if st.button(_("Bring another model"), type="primary", icon=":material/upload:"):
            shell.go("model_data", view)
    elif dataset.kind == "text":
        panels.empty(_("Sharing is for classifiers of pictures and rows; a language model is none."))
    elif look == "share":
        sharing.draw(view, chosen)
    else:
        names = {one.id: pickers.version_name(one) for one in chosen}
        with st.container(horizontal=True):
            one = st.selectbox(_("First"), list(names), format_func=names.get, key="first", width=320)
            rest = [id for id in names if id != one]
            other = st.selectbox(_("Second"), rest, format_func=names.get, key="second", width=320)
        found = {each.id: each for each in chosen}
        similar.draw(ws, found[one], found[other], dataset)
