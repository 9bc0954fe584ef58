"""Security headers on every response, the failures of the server included."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import streamlit
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from surgery.ui.gate.hosts import named_host

ALWAYS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


class Headers:
    """Add the headers that a response does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.scripts = " ".join(f"'{digest}'" for digest in _inline_scripts())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; where it fails before it has answered, answer 500 with the same headers."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in {**ALWAYS, "Content-Security-Policy": self.policy(scope)}.items():
                    headers.setdefault(name, value)
            started = started or message["type"] in ("websocket.accept", "websocket.close")
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception:
            if not started:
                await PlainTextResponse("Internal Server Error", 500)(scope, receive, send_with_headers)
            raise

    def policy(self, scope: Scope) -> str:
        """What a page may load and reach: this server, nothing else.

        Streamlit's styles are written by scripts, hence 'unsafe-inline' for styles; its one inline script is named by
        its digest. Plotly compiles the drawing of its WebGL figures (the map of neurons), hence 'unsafe-eval'.
        Websockets are named because not every browser counts them to 'self'.
        """
        host = named_host(scope)
        sockets = f" ws://{host} wss://{host}" if host else ""
        return "; ".join(
            (
                "default-src 'self'",
                f"script-src 'self' 'unsafe-eval' {self.scripts}".strip(),
                "style-src 'self' 'unsafe-inline'",
                "img-src 'self' data: blob:",
                "font-src 'self' data:",
                f"connect-src 'self'{sockets}",
                "worker-src 'self' blob:",
                "frame-src 'none'",
                "object-src 'none'",
                "base-uri 'self'",
                "form-action 'self'",
                "frame-ancestors 'none'",
            )
        )


def digest(text: str) -> str:
    """Return how a policy names an inline script or style: `sha256-…`."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inline_scripts() -> Iterator[str]:
    """The digests of the inline scripts in the page that Streamlit serves."""
    page = Path(streamlit.__file__).parent / "static" / "index.html"
    yield from (digest(script) for script in _INLINE.findall(page.read_text("utf-8")))
