"""Who may reach the app: the decision itself, and a page without the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgery.errors import AccessError
from surgery.ui import access
from surgery.ui.gate import build
from surgery.workspace import Project
from tests.pages.conftest import OpenPage, failures

TOKEN = "0123456789abcdef"
PROVIDER = """
[auth]
redirect_uri = "https://surgery.example/oauth2callback"
cookie_secret = "0123456789abcdef"
client_id = "id"
client_secret = "secret"
server_metadata_url = "https://login.example/.well-known/openid-configuration"
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_needs_nothing(address: str) -> None:
    access.refuse_unprotected(address, {}, ())


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "surgery.example", "", None, "127.0.0.1.evil.org"])
def test_any_other_address_is_refused(address: str | None) -> None:
    with pytest.raises(AccessError, match=r"nothing protects the app.*SURGERY_TOKEN"):
        access.refuse_unprotected(address, {}, ())


def test_a_token_opens_the_network() -> None:
    access.refuse_unprotected("0.0.0.0", {"SURGERY_TOKEN": TOKEN}, ())


@pytest.mark.parametrize("token", ["short", "   ", "0123456789abcde"])
def test_a_short_token_does_not(token: str) -> None:
    with pytest.raises(AccessError):
        access.refuse_unprotected("0.0.0.0", {"SURGERY_TOKEN": token}, ())


def test_a_complete_provider_opens_the_network(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text(PROVIDER)
    access.refuse_unprotected("0.0.0.0", {}, (file,))


def test_a_named_provider_counts(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    common, _, own = PROVIDER.partition("client_id")
    file.write_text(f"{common}\n[auth.google]\nclient_id{own}")
    assert access.sign_in_configured((file,))


@pytest.mark.parametrize("missing", ["cookie_secret", "redirect_uri", "client_id", "client_secret"])
def test_an_incomplete_provider_does_not(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text("\n".join(line for line in PROVIDER.splitlines() if not line.startswith(missing)))
    with pytest.raises(AccessError, match="nothing protects"):
        access.refuse_unprotected("0.0.0.0", {}, (file,))


def test_broken_secrets_are_named(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text("[auth")
    with pytest.raises(AccessError, match=r"secrets\.toml is not valid TOML"):
        access.sign_in_configured((file,))


def test_tokens_are_compared_whole() -> None:
    assert access.accepts(f" {TOKEN}\n", TOKEN)
    assert not access.accepts(TOKEN[:-1], TOKEN)
    assert not access.accepts("ÿ" * 16, TOKEN)


@pytest.mark.parametrize("name", ["home", "versions"])
def test_a_page_without_the_gate_shows_nothing_where_visitors_must_identify_themselves(
    open_page: OpenPage, project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SURGERY_TOKEN", TOKEN)
    app = open_page(name, project=project.id)
    assert "runs without the gate" in failures(app)[0]
    assert not app.dataframe
    assert not app.button
    assert "Boxes" not in str([element.value for element in app.caption])
    monkeypatch.setattr(build, "_built", True)
    assert failures(open_page(name, project=project.id)) == []


def test_an_unprotected_address_is_refused_by_the_app_too(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.st, "get_option", lambda name: "0.0.0.0")
    app = open_page("versions")
    assert "nothing protects the app" in failures(app)[0]
    assert not app.button
