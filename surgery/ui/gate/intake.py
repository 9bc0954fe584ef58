"""How many bytes of request bodies the server takes in at a time: of one request, of one session, and in all.

Bytes are counted as they arrive, whatever Content-Length says, and a body is cut where a limit is reached. Streamlit
holds an upload about twice in memory, so a share of the memory that is free is a limit as well.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from surgery.ui.messages import _

MB = 1 << 20
FRAME = MB  # bytes: what a multipart body is longer than the file in it, as Streamlit allows
OTHER = 64 << 10  # bytes: the body of any request that is no upload; the login form is the longest
SHARE = 0.25  # of the free memory, for uploads in flight
STALLED = 60.0  # seconds without a byte, after which a body is given up
_UPLOAD = re.compile(r"/_stcore/upload_file/(?P<session>[^/]+)/[^/]+/?$")


class Refused(Exception):
    """A body is cut here: status, text for the visitor, seconds until another try makes sense (0: none does)."""

    def __init__(self, status: int, text: str, retry: int = 0) -> None:
        super().__init__(text)
        self.status, self.text, self.retry = status, text, retry

    def response(self) -> PlainTextResponse:
        """Return the answer; the connection ends with it, the rest of the body is not read."""
        headers = {"Connection": "close"} | ({"Retry-After": str(self.retry)} if self.retry else {})
        return PlainTextResponse(self.text, self.status, headers)


@dataclass
class Flow:
    """The bytes of uploads in flight.

    largest: bytes of one upload, and of all uploads of one session at a time. free: returns the bytes of free memory.
    """

    largest: int
    free: Callable[[], int] = lambda: int(psutil.virtual_memory().available)
    sessions: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Return the bytes in flight."""
        return self.sessions.total()

    def room(self) -> int:
        """Return the bytes that may be in flight in all: two of the largest uploads, but a share of free memory."""
        return min(2 * (self.largest + FRAME), int(self.free() * SHARE))

    def take(self, session: str, size: int, room: int) -> None:
        """Count `size` more bytes of a session.

        Raises:
            Refused: they do not fit.
        """
        if self.sessions[session] + size > self.largest + FRAME:
            raise Refused(503, _("Another upload of this page is in progress. Wait until it has finished."), 10)
        if self.total + size > room:
            raise Refused(503, _("The server has no memory for this upload now. Try again when others have ended."), 30)
        self.sessions[session] += size

    def release(self, session: str, size: int) -> None:
        """Forget bytes that are no longer in flight."""
        self.sessions[session] -= size
        if not self.sessions[session]:
            del self.sessions[session]


class Intake:
    """Cut request bodies at the limits. largest: bytes of one upload."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self.app, self.flow = app, Flow(largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app on a body that is counted; where it does not fit, answer 413 or 503 in the app's place."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(self.flow, scope["path"], receive)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, body.receive, watched)
        except Refused as refused:
            if started:
                raise
            await refused.response()(scope, receive, send)
        finally:
            body.done()


class _Body:
    """One request body, counted."""

    def __init__(self, flow: Flow, path: str, receive: Receive) -> None:
        upload = _UPLOAD.search(path)
        self.flow, self._receive = flow, receive
        self.session = upload["session"] if upload else None
        self.limit = flow.largest + FRAME if upload else OTHER
        self.size = 0
        self.room: int | None = None
        self.ended = False

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            Refused: a limit is reached, or nothing has come for too long.
        """
        if self.ended:  # what follows a body is the wait for the visitor to leave, which may take any time
            return await self._receive()
        try:
            async with asyncio.timeout(STALLED):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, _("The upload has stalled. Start it again.")) from None
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        self._count(len(message.get("body", b"")))
        return message

    def _count(self, size: int) -> None:
        if self.size + size > self.limit:
            text = _("The file is larger than {limit} MB. Import it on the server: surgery import-data PATH")
            raise Refused(413, text.format(limit=self.flow.largest // MB) if self.session else _("Request too large."))
        if self.session is not None:
            self.room = self.flow.room() if self.room is None else self.room
            self.flow.take(self.session, size, self.room)
        self.size += size

    def done(self) -> None:
        """Take the bytes out of the flow."""
        if self.session is not None:
            self.flow.release(self.session, self.size)
