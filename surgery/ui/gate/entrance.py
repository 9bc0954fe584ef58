"""Who comes in: the holder of a cookie that the token or the sign-in gave; where neither is set up, this machine.

Without a cookie a page becomes the login page with status 401; anything else, websockets included, gets 401 and a
short text. Only the way in itself is open: `POST /enter` with the token, and with a sign-in provider `GET /enter`,
which leads to it, and Streamlit's own three routes for it.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import auth_util, user_info
from streamlit.errors import StreamlitAuthError
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from surgery.ui import access
from surgery.ui.gate import login
from surgery.ui.gate.attempts import Attempts
from surgery.ui.gate.passes import LIFETIME, Passes
from surgery.ui.messages import _

ENTER = "/enter"
SIGN_IN = ("/auth/login", "/auth/logout", "/oauth2callback")  # Streamlit's own routes for its sign-in
_SLOWEST = 10.0  # seconds that the login form may take to arrive


@dataclass(frozen=True)
class Rules:
    """What is set up. token: to be shown, or None. providers: names of sign-ins. base: `server.baseUrlPath`, `/x`."""

    token: str | None = None
    providers: tuple[str, ...] = ()
    base: str = ""

    @property
    def open(self) -> bool:
        """Say whether nobody has to identify themselves."""
        return self.token is None and not self.providers


@dataclass
class Entrance:
    """Let visitors pass, or answer in the app's place."""

    app: ASGIApp
    rules: Rules
    attempts: Attempts = field(default_factory=Attempts)

    def __post_init__(self) -> None:
        """Derive the key of the cookies once: that is slow on purpose."""
        self.passes = Passes(self.rules.token) if self.rules.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it may, else answer."""
        answer = None if scope["type"] == "lifespan" else await self.answer(scope, receive)
        await (answer or self.app)(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the answer of the gate; None for a request that goes on to the app."""
        connection = HTTPConnection(scope)
        address = connection.client.host if connection.client else None
        if self.rules.open:
            return None if access.is_loopback(address) else _closed(connection)
        path = scope["path"].removeprefix(self.rules.base)
        if scope["type"] == "http" and path == ENTER:
            return await self._enter(Request(scope, receive), address)
        reserved = self.rules.providers and scope["type"] == "http" and scope["method"] == "GET" and path in SIGN_IN
        return None if reserved or self.knows(connection) else self._ask(connection)

    def knows(self, visitor: HTTPConnection) -> bool:
        """Say whether the visitor carries a valid cookie: ours, or that of Streamlit's sign-in."""
        if self.passes and self.passes.holds(visitor.cookies.get(self.passes.name, "")):
            return True
        return bool(self.rules.providers) and signed_in(visitor.cookies)

    async def _enter(self, request: Request, address: str | None) -> Response:
        if self.knows(request):
            return RedirectResponse(self.rules.base + "/", 303)
        if request.method == "POST" and self.passes:
            return await self._try(request, address)
        provider = request.query_params.get("provider")
        if request.method == "GET" and provider in self.rules.providers:
            try:
                return RedirectResponse(user_info.generate_login_redirect_url(provider), 303, _UNSTORED)
            except StreamlitAuthError as error:
                return PlainTextResponse(str(error), 501)
        return self._ask(request)

    async def _try(self, request: Request, address: str | None) -> Response:
        """Check the token of the login form. After the body is here nothing waits: attempts cannot overtake."""
        try:
            async with asyncio.timeout(_SLOWEST):
                body = await request.body()
        except (TimeoutError, ClientDisconnect):
            return PlainTextResponse(_("The form did not arrive whole. Send it again."), 408, _UNSTORED | _ENDED)
        form = parse_qs(body.decode("latin-1"))
        given, target = form.get("token", [""])[0], login.local(form.get("to", [""])[0], self.rules.base + "/")
        if pause := math.ceil(self.attempts.wait(address)):
            text = _("Too many wrong tokens. Try again in {seconds} s.").format(seconds=pause)
            return self._page(target, text, 429, {"Retry-After": str(pause)})
        if self.rules.token is None or self.passes is None or not access.accepts(given, self.rules.token):
            self.attempts.failed(address)
            return self._page(target, _("Wrong access token. Check it and try again."), 401)
        self.attempts.succeeded(address)
        answer = RedirectResponse(target, 303, _UNSTORED)
        answer.set_cookie(
            self.passes.name,
            self.passes.issue(),
            max_age=LIFETIME,
            path=self.rules.base + "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _ask(self, visitor: HTTPConnection) -> Response:
        """Answer a stranger."""
        page = visitor.scope["type"] == "http" and visitor.scope["method"] in ("GET", "HEAD")
        if not page or "text/html" not in visitor.headers.get("accept", ""):
            return PlainTextResponse(_("Log in first: open the app in a browser."), 401, _UNSTORED | _ENDED)
        query = visitor.url.query
        target = login.local(visitor.url.path + (f"?{query}" if query else ""), self.rules.base + "/")
        # A link from another site comes without the cookie, which is for requests of this site alone: ask once more.
        again = visitor.headers.get("sec-fetch-site") == "cross-site"
        return self._page(target, "", 401, {"Refresh": "0"} if again else {})

    def _page(self, target: str, problem: str, status: int, headers: dict[str, str] | None = None) -> Response:
        links = {name: f"{self.rules.base}{ENTER}?{urlencode({'provider': name})}" for name in self.rules.providers}
        action = self.rules.base + ENTER if self.passes else None
        return login.page(action=action, links=links, target=target, problem=problem, status=status, headers=headers)


_UNSTORED = {"Cache-Control": "no-store"}
_ENDED = {"Connection": "close"}  # a body that nobody reads ends with the answer


def _closed(connection: HTTPConnection) -> Response:
    text = _("Refused: the app is open to its own machine only. Set {name} to let others in with a token.")
    return PlainTextResponse(text.format(name=access.TOKEN), 403, _ENDED)


def signed_in(cookies: dict[str, str]) -> bool:
    """Say whether the cookies hold a sign-in that Streamlit itself accepts: its signature, its age, its origin."""
    secret = get_cookie_secret()

    def opened(name: str) -> bytes | None:
        value = cookies.get(name)
        return None if value is None else decode_signed_value(secret, name, value.encode("latin-1"))

    user = auth_util.get_cookie_with_chunks(opened, USER_COOKIE_NAME)
    try:
        claims = json.loads(user or b"{}")
    except ValueError:
        return False
    return claims.get("is_logged_in") is True and claims.get("origin") == auth_util.get_origin_from_redirect_uri()
