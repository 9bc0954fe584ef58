"""Model Surgery in the browser: the menu, the context bar, then the page that the URL names.

The server imports this file for `server`, the whole app behind its gate; then Streamlit runs it, as `__main__`, for
every visitor whom the gate has let in.
"""

from pathlib import Path

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from surgery.ui import bar, gate, panels, shell

IMAGES = Path(__file__).parent / "docs" / "images"

if __name__ != "__main__":
    # As `st.navigation` does, but before the first visitor, who would otherwise see the names of the files as a menu.
    PagesManager.uses_pages_directory = False
    server = st.App(__file__, middleware=gate.middleware(), lifespan=gate.lifespan)
else:
    # A file of our own: Streamlit loads the icons of its set from another server when they stand in the tab.
    st.set_page_config(page_title="Model Surgery", page_icon=str(IMAGES / "icon.svg"), layout="wide")
    st.logo(str(IMAGES / "logo.svg"), size="large")
    page = shell.navigation()
    gate.required()
    with panels.panel():
        bar.draw()
        shell.run(page)
