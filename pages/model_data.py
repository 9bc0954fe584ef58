"""Did it understand my model and data: bring both, see what was recognised, then scan the neurons."""

import streamlit as st

from surgery.ui import data_import, model_import, panels, recognised, shell
from surgery.ui.messages import _

view = shell.page("model_data", needs=("project",))
again = st.query_params.get("another")

if view.version is not None and view.dataset is not None and again is None:
    with st.container(border=True, key="together"), panels.panel():
        recognised.together(view)
left, right = st.columns(2, gap="medium")
with left, st.container(border=True, key="model"), panels.panel(_("Model")):
    if view.version is None or again == "model" or model_import.pending(view):
        model_import.draw(view)
    else:
        recognised.model(view)
        model_import.another_button(view)
with right, st.container(border=True, key="data"), panels.panel(_("Dataset")):
    if view.dataset is None or again == "data" or data_import.pending(view):
        data_import.draw(view)
    else:
        recognised.data(view)
        data_import.another_button(view)
