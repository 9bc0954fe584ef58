"""How the result of a surgery is told on any page: the sentences in their colors, and the receipt as a file."""

from __future__ import annotations

import streamlit as st

from surgery.receipt import Receipt
from surgery.receipt_html import to_html
from surgery.tell import Told
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.workspace import Version, Workspace

_MARKS = {"worse": (":material/trending_down:", "orange"), "same": (":material/check:", "blue")}


def sentences(told: Told, *, large: bool = False) -> None:
    """Removed classes first, then the headline (large: as a heading), then the class that loses most."""
    if told.removed:
        st.markdown(f":orange[:material/remove_circle: {plain(told.removed)}]")
    if told.headline:
        st.markdown(f"{'#### ' if large else ''}{plain(told.headline)}")
    if told.worst_class:
        icon, color = _MARKS.get(told.verdict, (":material/check:", "gray"))
        st.markdown(f":{color}[{icon} {plain(told.worst_class)}]")


def download(ws: Workspace, receipt: Receipt, version: Version, parent: str, *, primary: bool = False) -> None:
    """Offer the receipt as one HTML file, with the samples of its dataset where that is still there."""

    def page() -> str:
        dataset = str(receipt.plan.get("dataset", ""))
        data = (
            ws.dataset(dataset)
            if dataset in {row.id for row in ws.datasets(version.project) if row.state == "ready"}
            else None
        )
        return to_html(receipt, name=f"v{version.number} {version.name}", parent=parent, data=data)

    st.download_button(
        _("Receipt (HTML)"),
        page,
        f"receipt-v{version.number}.html",
        "text/html",
        icon=":material/receipt_long:",
        type="primary" if primary else "secondary",
        key=f"receipt_{version.id}",
    )
