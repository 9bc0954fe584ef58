"""Put the gate together from what is set up: environment, Streamlit's settings, secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware import Middleware
from streamlit import config

from surgery.errors import AccessError, SurgeryError
from surgery.ui import access, panels, uploads
from surgery.ui.gate.entrance import Entrance, Rules
from surgery.ui.gate.headers import Headers
from surgery.ui.gate.hosts import Hosts
from surgery.ui.gate.intake import MB, Intake
from surgery.ui.messages import _
from surgery.workspace import Workspace

_log = logging.getLogger(__name__)
_built = False


def middleware() -> list[Middleware]:
    """Return the gate, outermost first, for `st.App`.

    Raises:
        SystemExit: what is set up would leave the app unprotected; the message says what to do.
    """
    global _built
    address = st.get_option("server.address")
    try:
        access.refuse_unprotected(address)
        names = access.host_names(address)
        rules = Rules(access.token(), access.providers(), _base())
    except AccessError as error:
        raise SystemExit(f"surgery: {error.what}\n{error.fix}") from error
    config.set_option("server.allowedHosts", sorted(names))  # Streamlit looks at websockets once more
    _built = True
    return [
        Middleware(Headers),
        Middleware(Hosts, names=names),
        Middleware(Intake, largest=int(st.get_option("server.maxUploadSize")) * MB),
        Middleware(Entrance, rules=rules),
    ]


def required() -> None:
    """Stop the page where visitors must identify themselves and this server has been started without the gate."""
    if _built:
        return
    try:
        access.refuse_unprotected(st.get_option("server.address"))
        if access.token() is None and not access.sign_in_configured():
            return
        raise AccessError(
            _("This server runs without the gate that asks visitors for the token or the sign-in."),
            _("Start the app with `surgery`, or with `streamlit run app.py`."),
        )
    except AccessError as error:
        panels.show_error(error)
        st.stop()


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[None]:
    """Before the first visitor: remove uploads that nobody imported."""
    await asyncio.to_thread(_tidy)
    yield


def _tidy() -> None:
    try:
        uploads.expire(Workspace())
    except (SurgeryError, SQLAlchemyError, OSError):
        _log.exception("Abandoned uploads could not be removed")


def _base() -> str:
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{path}" if path else ""
