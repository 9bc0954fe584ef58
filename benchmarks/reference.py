"""What seconds are compared with, measured in the same run: an empty process, a bare Streamlit app.

The same click took 0.38 s in the median on one machine and 0.99 s on another: seconds alone say more about the machine
than about the product.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from playwright.sync_api import Page

FIGURE = """() => { const gd = document.querySelector('.js-plotly-plot');
return gd._fullData.filter(t => t.customdata).map(t => ({type: t.type, mode: 'markers', x: [...t.x], y: [...t.y],
customdata: [...t.customdata], marker: {size: typeof t.marker.size === 'number' ? t.marker.size : 6}})); }"""
BARE = """
import json
from pathlib import Path

import streamlit as st

TRACES = json.loads(Path({file!r}).read_text())


def drawn():
    st.title("Drawn")
    figure = {{"data": TRACES, "layout": {{"dragmode": "pan", "height": 600, "showlegend": True}}}}
    event = st.plotly_chart(figure, on_select="rerun", key="map")
    points = event["selection"]["points"]
    st.write(f"neuron {{points[0]['customdata']}}" if points else "nothing chosen")


def written():
    st.title("Written")


st.navigation([st.Page(drawn, title="Drawn", default=True), st.Page(written, title="Written", url_path="w")]).run()
"""


def torch_import(times: int = 3) -> float:
    """Seconds that an empty process takes to import torch and end: the median."""
    return statistics.median(process("-c", "import torch") for _ in range(times))


def process(*arguments: str) -> float:
    """Seconds from the start to the end of a Python process."""
    start = time.monotonic()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


@contextlib.contextmanager
def started(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[tuple[str, float]]:
    """A server on a free loopback port (`{port}` in the arguments); its address and the moment it was started.

    Ended afterwards, by its pid.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *(one.format(port=port) for one in arguments)]
    start = time.monotonic()
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if running.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with exit code {running.returncode}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}", start
    finally:
        running.terminate()
        running.wait()


STREAMLIT = ("--server.port", "{port}", "--server.address", "127.0.0.1", "--server.headless", "true")


def hello() -> tuple[str, ...]:
    """What starts Streamlit's own demonstration."""
    return ("-m", "streamlit", "hello", *STREAMLIT)


def bare(page: Page, folder: Path) -> tuple[str, ...]:
    """What starts a bare Streamlit app of two pages: one draws the points that `page` shows, the other has a title."""
    points = folder / "figure.json"
    points.write_text(json.dumps(page.evaluate(FIGURE)))
    script = folder / "bare.py"
    script.write_text(BARE.format(file=str(points)))
    return ("-m", "streamlit", "run", str(script), *STREAMLIT)
