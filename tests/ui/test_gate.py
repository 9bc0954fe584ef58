"""The parts of the gate by themselves: names, cookies, attempts, bodies, where a login leads, uploads that stay."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send
from streamlit.errors import StreamlitMissingAuthlibError

from surgery.errors import AccessError
from surgery.ui import access, uploads
from surgery.ui.gate import attempts, entrance, intake, login
from surgery.ui.gate.attempts import Attempts
from surgery.ui.gate.entrance import Entrance, Rules
from surgery.ui.gate.headers import Headers
from surgery.ui.gate.intake import FRAME, MB, Intake
from surgery.ui.gate.passes import LIFETIME, Passes
from surgery.workspace import Workspace, queue

UPLOAD = "/_stcore/upload_file/{session}/file"


def exchange(app: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope, *chunks: bytes) -> list[Message]:
    """What an app sends for one request whose body comes in these chunks."""
    return asyncio.run(_exchange(app, scope, iter(chunks or (b"",))))


async def _exchange(
    app: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope, chunks: Iterable[bytes]
) -> list[Message]:
    left, sent = list(chunks), []

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def request(path: str = "/", method: str = "GET", client: str | None = "127.0.0.1", **headers: str) -> Scope:
    """The scope of a request; `_` in the name of a header is `-`."""
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:1"), *lines],
        "client": (client, 1) if client else None,
        "scheme": "http",
        "server": ("127.0.0.1", 1),
    }


async def swallow(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that reads the whole body and says how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await PlainTextResponse(str(size))(scope, receive, send)


def test_a_cookie_holds_until_it_expires_and_only_for_its_token() -> None:
    first, again, other = Passes("0123456789abcdef"), Passes("0123456789abcdef"), Passes("0123456789abcdeg")
    cookie = first.issue(now=1000.0)
    assert first.holds(cookie, now=1000.0 + LIFETIME - 1)
    assert again.holds(cookie, now=1000.0), "a restart keeps visitors in"
    assert not first.holds(cookie, now=1000.0 + LIFETIME)
    assert not other.holds(cookie, now=1000.0), "a new token lets nobody in with an old cookie"
    assert first.name == again.name != other.name
    assert "0123456789abcdef" not in cookie + first.name


def test_each_wrong_token_makes_the_next_wait_longer_up_to_a_bound() -> None:
    tried, waits = Attempts(), []
    for second in range(0, 40_000, 800):
        tried.failed("10.0.0.1", now=float(second))
        waits.append(tried.wait("10.0.0.1", now=float(second)))
    assert waits[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert set(waits[7:]) == {attempts.LONGEST}
    assert tried.wait("10.0.0.1", now=39_200.0 + 59.0) == pytest.approx(1.0)
    assert tried.wait("10.0.0.1", now=39_200.0 + attempts.FORGOTTEN) == 0.0
    assert tried.wait("10.0.0.2", now=39_200.0) == 0.0, "nobody else waits"


def test_a_right_token_and_time_forgive() -> None:
    tried = Attempts()
    tried.failed("10.0.0.1", now=0.0)
    tried.failed("10.0.0.1", now=5.0)
    tried.succeeded("10.0.0.1")
    assert tried.wait("10.0.0.1", now=5.0) == 0.0
    tried.failed("10.0.0.1", now=6.0)
    tried.failed("10.0.0.1", now=6.0 + attempts.FORGOTTEN)
    assert tried.wait("10.0.0.1", now=6.0 + attempts.FORGOTTEN) == 1.0


def test_one_ipv6_network_is_one_visitor_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Attempts()
    tried.failed("2001:db8::1", now=0.0)
    assert tried.wait("2001:db8::2", now=0.0) == 1.0
    assert tried.wait("2001:db8:0:1::1", now=0.0) == 0.0
    assert tried.wait("::ffff:10.0.0.1", now=0.0) == 0.0
    tried.failed("not an address", now=0.0)
    assert tried.wait(None, now=0.0) == 1.0
    monkeypatch.setattr(attempts, "REMEMBERED", 3)
    for last in range(9):
        tried.failed(f"10.0.0.{last}", now=0.0)
    assert len(tried) == 3


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/versions?project=a&x=%26", "/versions?project=a&x=%26"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/%5Cevil.example"),
        ("/\r\nSet-Cookie: a=b", "/%0D%0ASet-Cookie:%20a=b"),
        ("https://evil.example", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_to_a_path_of_this_server(target: str, expected: str) -> None:
    assert login.local(target, "/") == expected


@pytest.mark.parametrize("problem", ["", "<b>bad</b>"])
def test_the_login_page_shows_nothing_raw(problem: str) -> None:
    page = login.page(action="/enter", links={'"><script>': "/x"}, target='/"><script>', problem=problem)
    text = bytes(page.body).decode()
    assert "<script" not in text
    assert "<b>" not in text


def test_the_addresses_of_a_server_are_its_names() -> None:
    assert access.host_names("127.0.0.1", {}) == {"127.0.0.1", "localhost", "::1"}
    assert access.host_names("[::1]", {}) == access.LOOPBACK
    assert access.host_names("Lab.example", {}) == access.LOOPBACK | {"lab.example"}
    named = access.host_names("127.0.0.1", {"SURGERY_HOSTS": " A.example., [2001:db8::1],10.0.0.5,"})
    assert named == access.LOOPBACK | {"a.example", "2001:db8::1", "10.0.0.5"}
    everywhere = access.host_names("0.0.0.0", {})
    assert everywhere >= access.LOOPBACK
    assert all(name == "localhost" or set(name) <= set("0123456789abcdef:.") for name in everywhere)


@pytest.mark.parametrize("name", ["*", "*.example", "http://a.example", "a.example:80", "a b", "a/b", "-a", "evil@a"])
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(AccessError, match="is not a host name"):
        access.host_names("127.0.0.1", {"SURGERY_HOSTS": name})


def test_a_guessable_cookie_secret_is_refused(tmp_path: Path) -> None:
    keys = "".join(f'{key} = "x"\n' for key in ("redirect_uri", "client_id", "client_secret", "server_metadata_url"))
    (tmp_path / "secrets.toml").write_text(f'[auth]\n{keys}cookie_secret = "123456789012345"\n')
    with pytest.raises(AccessError, match=r"cookie_secret .* has 15 characters"):
        access.providers((tmp_path / "secrets.toml",))


def test_an_upload_may_be_as_large_as_it_says_and_no_larger() -> None:
    app = Intake(swallow, largest=2 * MB)
    fits = exchange(app, request(UPLOAD.format(session="a"), "PUT"), *[bytes(MB)] * 3)
    assert fits[1]["body"] == str(3 * MB).encode(), "the file and its frame"
    cut = exchange(app, request(UPLOAD.format(session="a"), "PUT", content_length="5"), *[bytes(MB)] * 3, b"x")
    assert cut[0]["status"] == 413
    assert b"larger than 2 MB" in cut[1]["body"]
    assert (b"connection", b"close") in cut[0]["headers"]
    assert app.flow.total == 0


@pytest.mark.parametrize("path", ["/", "/_stcore/upload_file", "/_stcore/agent/mcp", "/_stcore/upload_file/a"])
def test_other_bodies_are_short(path: str) -> None:
    app = Intake(swallow, largest=2 * MB)
    assert exchange(app, request(path, "POST"), bytes(intake.OTHER))[0]["status"] == 200
    assert exchange(app, request(path, "POST"), bytes(intake.OTHER), b"x")[0]["status"] == 413


def test_uploads_share_what_is_left() -> None:
    async def story() -> tuple[list[int], int]:
        app = Intake(swallow, largest=2 * MB)
        app.flow.free = lambda: 1 << 40
        gate, statuses = asyncio.Event(), []

        async def half(session: str) -> None:
            async def receive() -> Message:
                if first:
                    return {"type": "http.request", "body": first.pop(), "more_body": True}
                await gate.wait()
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Message) -> None:
                statuses.append(message.get("status", 0))

            first = [bytes(2 * MB)]
            await app(request(UPLOAD.format(session=session), "PUT"), receive, send)

        waiting = [asyncio.create_task(half(session)) for session in ("a", "b")]
        await asyncio.sleep(0)
        await half("a")  # with the first, more than one session may have in flight
        waiting.append(asyncio.create_task(half("c")))
        await asyncio.sleep(0)
        await half("d")  # 6 MB of the 6 that all may have
        gate.set()
        await asyncio.gather(*waiting)
        return [status for status in statuses if status], app.flow.total

    statuses, left = asyncio.run(story())
    assert statuses == [503, 503, 200, 200, 200]
    assert left == 0, "what has ended is no longer in flight"


def test_little_free_memory_stops_uploads_before_the_server_runs_out() -> None:
    app = Intake(swallow, largest=100 * MB)
    app.flow.free = lambda: 8 * MB
    answer = exchange(app, request(UPLOAD.format(session="a"), "PUT"), *[bytes(MB)] * 3)
    assert answer[0]["status"] == 503
    assert b"no memory" in answer[1]["body"]
    app.flow.free = lambda: 1 << 40
    assert app.flow.room() == 2 * (100 * MB + FRAME)


def test_a_stalled_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(intake, "STALLED", 0.01)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Intake(swallow, largest=MB)(request(UPLOAD.format(session="a"), "PUT"), silence, send))
    assert sent[0]["status"] == 408


def test_a_failure_of_the_server_is_answered_with_the_headers_too() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret detail")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    with pytest.raises(RuntimeError):
        asyncio.run(Headers(broken)(request(), receive, send))
    names = {name for name, _value in sent[0]["headers"]}
    assert sent[0]["status"] == 500
    assert {b"content-security-policy", b"x-frame-options", b"x-content-type-options", b"referrer-policy"} <= names
    assert b"secret" not in sent[1]["body"]


@pytest.mark.parametrize(("client", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 403), (None, 403)])
def test_without_a_token_only_this_machine_is_let_in(client: str | None, status: int) -> None:
    assert exchange(Entrance(swallow, Rules()), request(client=client))[0]["status"] == status


def test_under_a_base_path_the_way_in_and_the_cookie_stay_below_it() -> None:
    gate = Entrance(swallow, Rules(token="0123456789abcdef", base="/lab"))
    page = exchange(gate, request("/lab/versions", accept="text/html"))
    assert b'action="/lab/enter"' in page[1]["body"]
    entered = exchange(gate, request("/lab/enter", "POST"), b"token=0123456789abcdef")
    headers = dict(entered[0]["headers"])
    assert headers[b"location"] == b"/lab/"
    assert b"Path=/lab/" in headers[b"set-cookie"]


@pytest.mark.parametrize("provider", ["default", "okta"])
def test_the_way_to_the_sign_in_is_made_anew_for_each_visitor(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    links = iter([f"/auth/login?provider={provider}-1", f"/auth/login?provider={provider}-2"])
    monkeypatch.setattr(entrance.user_info, "generate_login_redirect_url", lambda name: next(links))
    gate = Entrance(swallow, Rules(providers=("default", "okta")))
    asked = request("/enter") | {"query_string": f"provider={provider}".encode()}
    for number in (1, 2):
        answer = exchange(gate, asked)[0]
        assert answer["status"] == 303
        assert dict(answer["headers"])[b"location"] == f"/auth/login?provider={provider}-{number}".encode()
    unknown = request("/enter") | {"query_string": b"provider=evil"}
    assert exchange(gate, unknown)[0]["status"] == 401


def test_a_sign_in_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise StreamlitMissingAuthlibError

    monkeypatch.setattr(entrance.user_info, "generate_login_redirect_url", missing)
    asked = request("/enter") | {"query_string": b"provider=default"}
    answer = exchange(Entrance(swallow, Rules(providers=("default",))), asked)
    assert answer[0]["status"] == 501
    assert b"Authlib" in answer[1]["body"]


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("SURGERY_DATABASE", raising=False)
    return Workspace(tmp_path / "home", who="ada")


def kept(ws: Workspace, name: str, hours: float) -> Path:
    """An upload of that age."""
    path = uploads.keep(ws, name, io.BytesIO(b"x"))
    os.utime(path, (time.time() - hours * 3600,) * 2)
    return path


def test_an_upload_that_nobody_imports_goes_after_a_day(ws: Workspace) -> None:
    yesterday, today = kept(ws, "yesterday.zip", 23.0), kept(ws, "today.zip", 1.0)
    os.utime(yesterday, (time.time() - 24.1 * 3600,) * 2)
    latest = uploads.keep(ws, "latest.zip", io.BytesIO(b"x"))
    assert not yesterday.parent.exists()
    assert today.exists()
    assert latest.exists()


def test_an_upload_stays_while_a_job_is_to_read_it(ws: Workspace) -> None:
    path = kept(ws, "queued.zip", 23.0)
    project = ws.create_project("Queued")
    task = {"kind": "import_data", "path": str(path), "name": "queued"}
    queue.add(ws.store, task, project=project.id, title="Import", lane="short", device="cpu", limit=60.0)
    os.utime(path, (time.time() - 100 * 3600,) * 2)
    uploads.expire(ws)
    assert path.exists()
