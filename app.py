"""Model Surgery in the browser: the menu, the way in, the context bar, then the page that the URL names."""

from pathlib import Path

import streamlit as st

from surgery.ui import bar, entrance, panels, shell

st.set_page_config(page_title="Model Surgery", page_icon=":material/neurology:", layout="wide")
st.logo(str(Path(__file__).parent / "docs" / "images" / "logo.svg"), size="large")
page = shell.navigation()
entrance.open_for_visitor()
with panels.panel():
    bar.draw()
    shell.run(page)
