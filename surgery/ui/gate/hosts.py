"""By which names the app may be addressed: a page of a foreign name that resolves to this machine reads nothing.

A browser sends the name that it resolved in Host, and the page that sends the request in Origin. The first must be a
name of this app, the second the very page that Host names.
"""

from __future__ import annotations

import re

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from surgery.ui.messages import _

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)\.?(?::\d{1,5})?")


class Hosts:
    """Answer 403 to a request, or a websocket, whose Host or Origin is not the app's own.

    names: as `access.host_names` gives them, in lower case, IPv6 without brackets.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or self.admits(scope):
            await self.app(scope, receive, send)
            return
        text = _("Refused: the app is not known by this host name. Start it with `surgery --host NAME` to allow one.")
        await PlainTextResponse(text, 403, {"Connection": "close"})(scope, receive, send)

    def admits(self, scope: Scope) -> bool:
        """Say whether the request names this app, and comes from no other site's page."""
        host = named_host(scope)
        if host is None or _name(host) not in self.names:
            return False
        origins = _values(scope, b"origin")
        return not origins or origins in ([f"http://{host}"], [f"https://{host}"])


def named_host(scope: Scope) -> str | None:
    """Return the request's Host in lower case, `name` or `name:port`; None when it is missing, double or malformed."""
    hosts = _values(scope, b"host")
    return hosts[0] if len(hosts) == 1 and _HOST.fullmatch(hosts[0]) else None


def _name(host: str) -> str:
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]") if match else ""


def _values(scope: Scope, header: bytes) -> list[str]:
    return [value.decode("latin-1").strip().lower() for name, value in scope["headers"] if name == header]
