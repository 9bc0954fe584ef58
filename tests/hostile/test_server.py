"""Nobody gets in: every route of a real server, without credentials, under foreign names, with endless bodies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from surgery.workspace import Workspace
from tests.patience import SECONDS
from tests.server import ROOT, Server, serving, used_workspace
from tests.visitor import STREAM, Answer, ask, cookie_of, log_in, raw, refusal, session_of, stream

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("server")]
TOKEN = "0123456789abcdef-right"
MB = 1 << 20
SECURE = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROUTES = """
import json, app
def walk(routes, prefix=""):
    for route in routes:
        path = prefix + getattr(route, "path", "")
        yield {"path": path, "kind": type(route).__name__}
        yield from walk(getattr(route, "routes", None) or (), path)
print(json.dumps(list(walk(app.server._build_starlette_app().routes))))
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a token."""
    folder = tmp_path_factory.mktemp("locked")
    with serving(used_workspace(folder / "home"), folder, SURGERY_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without one, as `surgery` starts it; uploads up to 2 MB."""
    folder = tmp_path_factory.mktemp("plain")
    with serving(used_workspace(folder / "home"), folder, "--server.maxUploadSize", "2") as running:
        yield running


@pytest.fixture(scope="module")
def routes() -> list[str]:
    """The paths of all routes that the server really has, mounts included, with something in each placeholder."""
    found = subprocess.run([sys.executable, "-c", ROUTES], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = json.loads(found.stdout.splitlines()[-1])
    assert {"Route", "WebSocketRoute", "Mount"} <= {row["kind"] for row in rows}
    return sorted({re.sub(r"\{[^}]*\}", "x", row["path"]) or "/" for row in rows})


def test_no_route_answers_a_stranger(locked: Server, routes: list[str]) -> None:
    known = {"/_stcore/health", "/_stcore/host-config", "/_stcore/metrics", STREAM, "/media/x", "/component/x"}
    assert known | {"/_stcore/upload_file/x/x", "/_stcore/bidi-components/x", "/auth/login"} <= set(routes)
    served = (
        "/index.html",
        "/favicon.png",
        "/static/js/index.js",
        "/versions",
        "/enter",
        "/app/static/x",
        "/any/thing",
    )
    for path in [*routes, *served]:
        for method in METHODS:
            status = ask(locked.port, path, method, source="127.0.0.7").status  # its wrong tokens slow nobody else
            assert status in (401, 403), f"{method} {path} answers {status}"
        assert refusal(locked.port, path=path) in (401, 403), f"websocket {path}"


@pytest.mark.parametrize(
    "target",
    [
        "//_stcore/health",
        "/_stcore/%68ealth",
        "/x/../_stcore/health",
        "/_stcore/health/",
        "/_stcore/health?x=/enter",
        "/enter/../_stcore/health",
        "/ENTER",
        "/enter/",
        "/auth/login",
        "http://127.0.0.1/_stcore/health",
        "*",
    ],
)
def test_no_spelling_of_a_path_gets_past(locked: Server, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{locked.port}\r\nConnection: close\r\n\r\n"
    assert raw(locked.port, request.encode()) in (400, 401, 403)


@pytest.mark.parametrize("start", ["command", "uvicorn"])
def test_the_gate_stands_however_the_app_is_started(tmp_path: Path, start: str) -> None:
    with serving(used_workspace(tmp_path / "home"), tmp_path, start=start, SURGERY_TOKEN=TOKEN) as running:
        assert ask(running.port, "/_stcore/host-config").status == 401
        assert ask(running.port, "/_stcore/health", headers={"Host": "evil.example"}).status == 403
        assert refusal(running.port) == 401
        assert log_in(running.port, TOKEN).status == 303


def test_the_token_opens_everything_and_a_page_shows_the_way(locked: Server) -> None:
    page = ask(locked.port, "/versions?project=a%26b", headers={"Accept": "text/html"})
    assert page.status == 401
    assert 'name="to" value="/versions?project=a%26b"' in page.text
    assert "Access token" in page.text
    assert "script" not in page.text

    entered = log_in(locked.port, TOKEN)
    assert (entered.status, entered.headers["location"]) == (303, "/versions")
    attributes = entered.headers["set-cookie"].lower()
    assert all(part in attributes for part in ("httponly", "samesite=strict", "max-age=", "path=/"))
    assert "secure" not in attributes.replace("samesite", "")
    cookie = {"Cookie": cookie_of(entered)}
    assert ask(locked.port, "/_stcore/health", headers=cookie).status == 200
    assert ask(locked.port, "/versions", headers=cookie).status == 200
    assert refusal(locked.port, cookie=cookie_of(entered)) == 101


def test_behind_https_the_cookie_never_travels_in_the_clear(locked: Server) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-Proto": "https"}
    entered = ask(locked.port, "/enter", "POST", headers=form, body=f"token={TOKEN}".encode())
    assert "; secure" in entered.headers["set-cookie"].lower()


def test_forged_and_foreign_cookies_open_nothing(locked: Server) -> None:
    name, _, value = cookie_of(log_in(locked.port, TOKEN)).partition("=")
    until, _, signature = value.partition(".")
    later = f"{int(until) + 1}.{signature}"
    for forged in (
        "",
        ".",
        later,
        f"{until}.",
        f"{until}.{'0' * 64}",
        f"{until}.{signature}0",
        "ÿ.ÿ",
        "nan." + signature,
    ):
        cookie = f"{name}={forged}"
        assert ask(locked.port, "/_stcore/health", headers={"Cookie": cookie}).status == 401, forged
    assert ask(locked.port, "/_stcore/health", headers={"Cookie": f"other={value}"}).status == 401
    user = create_signed_value("", "_streamlit_user", json.dumps({"is_logged_in": True, "origin": None})).decode()
    assert ask(locked.port, "/_stcore/health", headers={"Cookie": f"_streamlit_user={user}"}).status == 401


def test_wrong_tokens_are_slowed_and_logged_and_stop_nobody_else(locked: Server) -> None:
    wrong = f"guess-{secrets.token_hex(8)}"
    for _ in range(10):  # each makes the next wait longer, so that however slow the machine is, one comes too early
        refused = log_in(locked.port, wrong, source="127.0.0.9")
        if refused.status == 429:
            break
        assert refused.status == 401
        assert "Wrong access token. Check it and try again." in refused.text
    assert refused.status == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert log_in(locked.port, TOKEN, source="127.0.0.9").status == 429, "the right one waits too, or guesses pay"
    assert log_in(locked.port, TOKEN, source="127.0.0.8").status == 303
    log = "".join(file.read_text() for file in (locked.log, locked.home / "app.log") if file.exists())
    assert "Wrong access token from 127.0.0.9: attempt 1" in log
    assert wrong not in log
    assert TOKEN not in log


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_the_login_leads_nowhere_else(locked: Server, target: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    entered = ask(locked.port, "/enter", "POST", headers=form, body=f"token={TOKEN}&to={target}".encode())
    assert entered.status == 303
    assert entered.headers["location"] in ("/", "/%5Cevil.example")


def test_five_large_uploads_of_a_stranger_take_no_memory(locked: Server) -> None:
    process = psutil.Process(locked.process.pid)
    before = process.memory_info().rss
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", locked.port), timeout=SECONDS) as wire:
            head = f"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: 127.0.0.1:{locked.port}\r\n"
            wire.sendall(f"{head}Content-Length: {60 * MB}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                for _ in range(60):
                    wire.sendall(bytes(MB))
            with contextlib.suppress(ConnectionError):
                assert wire.recv(12) in (b"HTTP/1.1 401", b"")
    assert process.memory_info().rss - before < 20 * MB


FOREIGN = (
    ("evil.example", "http://evil.example"),
    ("evil.example:{port}", "http://evil.example:{port}"),
    ("127.0.0.1.evil.example:{port}", None),
    ("localhost.evil.example", None),
    ("evil.example#127.0.0.1", None),
    ("127.0.0.1@evil.example", None),
    ("", None),
    ("127.0.0.1:{port}", "http://evil.example"),
    ("127.0.0.1:{port}", "null"),
    ("127.0.0.1:{port}", "http://127.0.0.1:9"),
    ("127.0.0.1:{port}", "http://localhost:{port}"),
    ("127.0.0.1:{port}", "file://"),
)


@pytest.mark.parametrize(("host", "origin"), FOREIGN)
def test_a_foreign_name_reads_nothing(plain: Server, host: str, origin: str | None) -> None:
    headers = {"Host": host.format(port=plain.port)}
    if origin:
        headers["Origin"] = origin.format(port=plain.port)
    for path in ("/", "/_stcore/health", "/media/x", "/versions"):
        assert ask(plain.port, path, headers=headers).status == 403
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "A" * 22
    assert raw(plain.port, f"GET {STREAM} HTTP/1.1\r\n{lines}{key}==\r\n\r\n".encode()) == 403


def test_two_hosts_or_none_are_refused(plain: Server) -> None:
    own = f"Host: 127.0.0.1:{plain.port}\r\n"
    assert raw(plain.port, f"GET / HTTP/1.1\r\n{own}Host: evil.example\r\n\r\n".encode()) in (400, 403)
    assert raw(plain.port, b"GET / HTTP/1.0\r\n\r\n") in (400, 403)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}", "127.0.0.1"]
)
def test_its_own_names_are_served(plain: Server, host: str) -> None:
    host = host.format(port=plain.port)
    assert ask(plain.port, "/_stcore/health", headers={"Host": host}).status == 200
    assert refusal(plain.port, host=host, origin=f"http://{host.lower()}") == 101


def test_the_operator_names_further_hosts(tmp_path: Path) -> None:
    home = used_workspace(tmp_path / "home")
    with serving(home, tmp_path, SURGERY_TOKEN=TOKEN, SURGERY_HOSTS="Surgery.example, 10.0.0.5") as running:
        cookie = cookie_of(log_in(running.port, TOKEN))
        for host in ("surgery.example", "10.0.0.5:8080"):
            assert ask(running.port, "/_stcore/health", headers={"Host": host, "Cookie": cookie}).status == 200
            assert refusal(running.port, host=host, origin=f"https://{host}", cookie=cookie) == 101
        assert ask(running.port, "/", headers={"Host": "evil.example", "Cookie": cookie}).status == 403


def test_without_a_token_no_other_machine_is_served_through_a_proxy_here(plain: Server) -> None:
    forwarded = ask(plain.port, "/_stcore/health", headers={"X-Forwarded-For": "203.0.113.7"})
    assert forwarded.status == 403
    assert "SURGERY_TOKEN" in forwarded.text


def test_every_answer_has_the_security_headers(locked: Server, plain: Server, routes: list[str]) -> None:
    answers = {path: ask(plain.port, path) for path in [*routes, "/index.html", "/favicon.png"]}
    answers["refused"] = ask(plain.port, "/", headers={"Host": "evil.example"})
    answers["login"] = ask(locked.port, "/", headers={"Accept": "text/html"})
    answers["wrong"] = log_in(locked.port, "wrong", source="127.0.0.7")
    answers["large"] = ask(plain.port, "/x", "POST", body=bytes(MB))
    assert {200, 401, 403, 404} <= {answer.status for answer in answers.values()}
    for name, answer in answers.items():
        assert {key: answer.headers.get(key) for key in SECURE} == SECURE, name
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy, name
        assert "default-src '" in policy, name
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0], name


def test_no_foreign_page_may_frame_the_app_and_send_it_messages(plain: Server) -> None:
    config = json.loads(ask(plain.port, "/_stcore/host-config").text)
    assert config["allowedOrigins"] == []
    assert config["enableCustomParentMessages"] is False


def test_the_api_for_agents_is_off(plain: Server) -> None:
    for path in ("/_stcore/agent/interact", "/_stcore/agent/mcp"):
        refused = ask(plain.port, path, "POST", headers={"Content-Type": "application/json"}, body=b"{}")
        assert refused.status >= 400
        assert "not_available" in refused.text


def upload(port: int, session: str, xsrf: str, chunks: Iterator[bytes]) -> tuple[Answer | None, int]:
    """Send a chunked upload; the answer, and the bytes that the server took before it closed."""
    head = (
        f"PUT /_stcore/upload_file/{session}/{secrets.token_hex(4)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Cookie: _streamlit_xsrf={xsrf}\r\nX-Xsrftoken: {xsrf}\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
    )
    part = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as wire:
        wire.sendall(head.encode() + f"{len(part):x}\r\n".encode() + part + b"\r\n")
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                wire.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                sent += len(chunk)
        with contextlib.suppress(ConnectionError):
            found = wire.recv(65536).decode("utf-8", "replace")
            if match := re.match(r"HTTP/1\.1 (\d{3})", found):
                return Answer(int(match[1]), {}, found), sent
    return None, sent


@pytest.fixture
def session(plain: Server) -> Iterator[Callable[[], tuple[str, str]]]:
    """Begin sessions on the open server: `session()` returns its id and the token against cross-site requests."""
    xsrf = cookie_of(ask(plain.port, "/_stcore/health")).partition("=")[2]
    with contextlib.ExitStack() as opened:
        yield lambda: (session_of(opened.enter_context(stream(plain.port))), xsrf)


def test_an_endless_upload_is_cut_at_the_cap(plain: Server, session: Callable[[], tuple[str, str]]) -> None:
    id, xsrf = session()
    answer, sent = upload(plain.port, id, xsrf, (bytes(64 << 10) for _ in range(1600)))
    assert answer is not None
    assert (answer.status, "surgery import-data" in answer.text) == (413, True)
    assert sent < 20 * MB, "the connection ends soon after 3 MB, whatever the buffers between hold"
    again, _sent = upload(plain.port, id, xsrf, iter([bytes(MB), b"\r\n--cut--\r\n", b""]))
    assert again is not None
    assert again.status == 204, "and what was in flight is forgotten"


def test_the_body_of_any_other_request_is_small(locked: Server) -> None:
    assert ask(locked.port, "/enter", "POST", body=b"token=" + bytes(100 << 10)).status == 413


SECRET = "a-cookie-secret-of-32-characters"
AUTH = f"""
[auth]
redirect_uri = "https://surgery.example/oauth2callback"
cookie_secret = "{SECRET}"
client_id = "id"
client_secret = "secret"
server_metadata_url = "https://login.example/.well-known/openid-configuration"
"""


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a sign-in provider."""
    folder = tmp_path_factory.mktemp("federated")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit/secrets.toml").write_text(AUTH)
    with serving(used_workspace(folder / "home"), folder, folder=folder) as running:
        yield running


def identity(secret: str = SECRET, **claims: object) -> dict[str, str]:
    """The cookie that Streamlit sets after a sign-in."""
    user = {"is_logged_in": True, "origin": "https://surgery.example", "email": "ada@surgery.example", **claims}
    return {"Cookie": "_streamlit_user=" + create_signed_value(secret, "_streamlit_user", json.dumps(user)).decode()}


def test_with_a_sign_in_only_its_own_routes_are_open(federated: Server, routes: list[str]) -> None:
    own = {"/auth/login", "/auth/logout", "/oauth2callback"}
    assert own <= set(routes)
    for path in routes:
        assert (ask(federated.port, path).status in (401, 403)) == (path not in own), path
        assert ask(federated.port, path, "POST").status in (401, 403), path
        assert refusal(federated.port, path=path) in (401, 403), path
    page = ask(federated.port, "/versions", headers={"Accept": "text/html"})
    assert page.status == 401
    assert 'href="/enter?provider=default"' in page.text
    assert "Access token" not in page.text


def test_the_identity_cookie_is_verified_as_streamlit_does(federated: Server) -> None:
    health = "/_stcore/health"
    assert ask(federated.port, health, headers=identity()).status == 200
    assert refusal(federated.port, cookie=identity()["Cookie"]) == 101
    for forged in (
        identity(secret="another-secret-of-32-characters!"),
        identity(is_logged_in=False),
        identity(is_logged_in="yes"),
        identity(origin="https://evil.example"),
        {"Cookie": "_streamlit_user=x"},
        {"Cookie": "_streamlit_user="},
    ):
        assert ask(federated.port, health, headers=forged).status == 401
    assert ask(federated.port, "/enter?provider=other").status == 401


def test_an_interrupted_server_ends_at_once_though_pages_are_open(tmp_path: Path) -> None:
    with serving(used_workspace(tmp_path / "home"), tmp_path) as running, stream(running.port) as page:
        assert session_of(page)
        running.process.send_signal(signal.SIGINT)
        running.process.wait(timeout=SECONDS)


def test_the_next_start_removes_abandoned_uploads(tmp_path: Path) -> None:
    ws = Workspace(used_workspace(tmp_path / "home"))
    old, new = ws.uploads / "0123456789ab" / "old.zip", ws.uploads / "ba9876543210" / "new.zip"
    for path in (old, new):
        path.parent.mkdir()
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    with serving(ws.home, tmp_path):
        assert not old.parent.exists()
        assert new.exists()
