"""The login gate: what `access` decides, as a page. It runs before every page, deep links included."""

from __future__ import annotations

import time

import streamlit as st

from surgery.errors import AccessError
from surgery.ui import access, panels
from surgery.ui.messages import _

_KNOWN = "surgery.visitor"
_PAUSE = 1.0  # seconds after a wrong token: slows guessing, and only the guesser waits


def open_for_visitor() -> None:
    """Stop here until the visitor has shown the token and signed in, whichever of the two is configured."""
    try:
        access.refuse_unprotected(st.get_option("server.address"))
        token, sign_in = access.token(), access.sign_in_configured()
    except AccessError as error:
        panels.show_error(error)
        st.stop()
    if sign_in and not st.user.is_logged_in:
        _sign_in()
    if token and not st.session_state.get(_KNOWN):
        _ask(token)


def _sign_in() -> None:
    st.markdown(f"### {_('Model Surgery')}")
    if st.button(_("Sign in"), type="primary", icon=":material/login:"):
        st.login()
    st.stop()


def _ask(token: str) -> None:
    with st.form("entrance", width=420, border=False):
        st.markdown(f"### {_('Model Surgery')}")
        given = st.text_input(_("Access token"), type="password", autocomplete="current-password")
        st.caption(_("The operator of this app has set it as {name}.").format(name=access.TOKEN))
        sent = st.form_submit_button(_("Enter"), type="primary")
    if sent and access.accepts(given, token):
        st.session_state[_KNOWN] = True
        st.rerun()
    if sent:
        time.sleep(_PAUSE)
        st.error(_("This is not the token."), icon=":material/lock:")
    st.stop()
