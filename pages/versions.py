"""How did we get here, how do we go back: the lineage, each receipt, undo with proof, export, trash, events."""

import streamlit as st

from surgery.ui import all_versions, candidates, format, panels, shell, versions
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain

view = shell.page("versions", needs=("project", "version"))
ws, project, version = view.workspace, view.project, view.version

versions.steps(ws, project)
with panels.panel():
    versions.lineage_table(view)
with st.container(border=True, key="version_detail"), panels.panel():
    versions.heading(view)
    candidates.decide(ws, project, version)
    versions.parts(view)
    versions.actions(view)
with panels.panel():
    versions.receipt(view)
with panels.panel():
    all_versions.draw(view)
trashed = ws.versions(project.id, trashed=True)
if trashed:
    label = plural("Trash: {count} version", "Trash: {count} versions", len(trashed))
    with st.expander(label, icon=":material/delete:"), panels.panel():
        versions.trash(ws, project, trashed)
with st.expander(_("Activity log"), icon=":material/history:"), panels.panel():
    versions.events(ws, project)
st.caption(_("{name} uses {size} on disk.").format(name=plain(project.name), size=format.size(ws.disk_use(project.id))))
