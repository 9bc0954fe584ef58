"""Serve the app in this process, so that ending the command ends the server."""

from __future__ import annotations

import os
from pathlib import Path


def serve(app: Path, *, address: str, port: int) -> None:
    """Run `app` behind its gate until the process is told to stop; settings come from `.streamlit` beside it."""
    os.chdir(app.parent)  # before the import: Streamlit reads its settings from the working directory
    from streamlit.web import cli

    words = ["run", str(app), "--server.address", address.strip("[]"), "--server.port", str(port)]
    cli.main(words, standalone_mode=False)
