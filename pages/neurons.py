"""What does each neuron do: the map, the neuron's pictures and profile, and what happens without it."""

import streamlit as st

from surgery import jobs
from surgery.ui import basket, neuron, neuron_map, panels, places, progress, scans, shell, whatif
from surgery.ui.messages import _, plural
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids

view = shell.page("neurons", needs=("version", "dataset"))
ws, project, version, dataset = view.workspace, view.project, view.version, view.dataset


def scan_first() -> None:
    """Offer the scan that the map is made of, and show it running in place."""
    task = {"kind": "scan", "version": version.id, "dataset": dataset.id, "params": scans.PARAMETERS}
    if progress.watch_latest(ws, project.id, task):
        return
    panels.empty(_("The neurons of this version have not been looked at yet: one pass over the data shows them."))
    if st.button(_("Scan neurons"), type="primary", icon=":material/scatter_plot:"):
        jobs.submit(ws, task, project=project.id, title=_("Scan v{number}").format(number=version.number))
        st.rerun()


def hand(seen: Seen, ids: Ids) -> None:
    """What is in hand and what can be done with it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        count = plural("{count} neuron chosen", "{count} neurons chosen", len(ids))
        st.markdown(f"**{count}**" if ids else _("No neurons chosen"), width="stretch")
        basket.popover(view, ids, seen)
        remove(ids)


def remove(ids: Ids) -> None:
    """Go to the page Change with these neurons: saved, so that the link names them."""
    reason = None if ids else _("Choose neurons first: click one, draw around some, or take a row of the legend.")
    if st.button(_("Remove these…"), type="primary", icon=":material/content_cut:", disabled=not ids, help=reason):
        name = _("To remove from v{number}").format(number=version.number)
        saved = ws.save_selection(project.id, version.id, name, ids)
        shell.go("change", view, selection=saved.id)


def look(seen: Seen) -> None:
    """The map on the left; on the right what is in hand, one neuron, and what happens without them.

    The answer to a click comes first, then the thousands of points, then the what-if, which has to compute.
    """
    left, right = st.columns(2, gap="medium")
    with right, st.container(gap="small"):
        top, words, one, chart = (st.container() for _part in range(4))
    shown = None
    with left, panels.panel():
        found = places.of(ws, version, dataset.id, seen)
        places.arrange(ws, project.id, dataset.id, found)
        shown = neuron_map.controls(view, seen, found)
    ids: Ids = shown.ids if shown else ()
    with top, panels.panel():
        hand(seen, ids)
    later = None
    with one, panels.panel():
        focus = neuron.focus(seen, ids)
        if focus is not None:
            later = neuron.show(view, seen, ws.dataset(dataset.id), focus, ids)
    with left, panels.panel():
        if shown is not None:
            neuron_map.draw(seen, found, shown)
    with words, panels.panel():
        whatif.show(view, ids, words, chart)
    if later is not None:
        with one, panels.panel():
            later()


with panels.panel():
    support = ws.inspect(version.id)["support"]
    seen = scans.of(view)
    if support["level"] == "inspect":
        panels.unsupported(_("The neurons of this network cannot be told apart:"), panels.plain(support["reason"]))
    elif seen is None:
        scan_first()
    else:
        look(seen)
