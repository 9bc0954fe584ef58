"""A visitor without a browser: requests whose every header is its own, websockets, and what Streamlit says on them."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.patience import SECONDS

STREAM = "/_stcore/stream"
PATIENCE = SECONDS


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


def ask(
    port: int,
    target: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    source: str = "127.0.0.1",
    patience: float = PATIENCE,
) -> Answer:
    """Send one request from a loopback address; Host is the server's own unless `headers` has another."""
    given = {"Host": f"127.0.0.1:{port}", **(headers or {})}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience, source_address=(source, 0))
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        if body is not None:
            given.setdefault("Content-Length", str(len(body)))
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode("utf-8", "replace"))
    finally:
        connection.close()


def log_in(port: int, token: str, **more: str) -> Answer:
    """Send the form of the login page."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return ask(port, "/enter", "POST", headers=form, body=f"token={token}&to=/versions".encode(), **more)


def cookie_of(answer: Answer) -> str:
    """The cookie that an answer sets, as a request carries it."""
    return answer.headers["set-cookie"].partition(";")[0]


def raw(port: int, request: bytes) -> int:
    """Send bytes as they are and return the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as wire:
        wire.sendall(request)
        match = re.match(rb"HTTP/1\.1 (\d{3})", wire.recv(64))
        assert match
        return int(match[1])


def stream(
    port: int, *, host: str = "", origin: str | None = None, path: str = STREAM, cookie: str = "", xsrf: str = ""
) -> ClientConnection:
    """Open a websocket under any host name and origin."""
    wire = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    try:
        return connect(
            f"ws://{host or f'127.0.0.1:{port}'}{path}",
            sock=wire,
            origin=origin,
            subprotocols=["streamlit", xsrf or "none"],
            additional_headers={"Cookie": cookie} if cookie else None,
            open_timeout=PATIENCE,
        )
    except BaseException:
        wire.close()
        raise


def refusal(port: int, **given: str) -> int:
    """The status with which a websocket is refused; 101 when it is not."""
    try:
        with stream(port, **given):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def session_of(socket: ClientConnection) -> str:
    """Begin a session on an open websocket and return its id, as the first page load does."""
    message = BackMsg()
    message.rerun_script.query_string = ""
    socket.send(message.SerializeToString())
    while True:
        said = ForwardMsg()
        said.ParseFromString(socket.recv(timeout=PATIENCE))
        if said.WhichOneof("type") == "new_session":
            return str(said.new_session.initialize.session_id)
