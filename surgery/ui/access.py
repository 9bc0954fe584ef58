"""Who may reach the app: anybody on this machine; over the network only with a token or a sign-in provider.

SURGERY_TOKEN is a shared secret asked for on the first page. OpenID Connect is Streamlit's `[auth]` section in
`.streamlit/secrets.toml`. Everything here is decided without Streamlit, so the command line asks the same.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from surgery.errors import AccessError

TOKEN = "SURGERY_TOKEN"
MINIMUM = 16  # characters: 16 hexadecimal digits are 64 bits, out of reach for guessing over HTTP
_PROVIDER_KEYS = ("client_id", "client_secret", "server_metadata_url")


def is_loopback(address: str | None) -> bool:
    """Say whether only this machine can reach `address`; no address means every interface."""
    if not address:
        return False
    host = address.strip("[]")
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the token that visitors must give, or None when none is set.

    Raises:
        AccessError: the token is shorter than `MINIMUM` characters.
    """
    value = environment.get(TOKEN, "").strip()
    if not value:
        return None
    if len(value) < MINIMUM:
        raise AccessError(
            f"{TOKEN} has {len(value)} characters; at least {MINIMUM} are needed.",
            'Make one with: python -c "import secrets; print(secrets.token_hex(16))"',
        )
    return value


def accepts(given: str, expected: str) -> bool:
    """Compare a visitor's token in constant time."""
    return hmac.compare_digest(given.strip().encode(), expected.encode())


def secrets_files() -> tuple[Path, ...]:
    """Return where Streamlit looks for secrets, the more specific last."""
    return (Path.home() / ".streamlit/secrets.toml", Path.cwd() / ".streamlit/secrets.toml")


def sign_in_configured(files: tuple[Path, ...] | None = None) -> bool:
    """Say whether a complete OpenID Connect provider stands in the secrets: the whole `[auth]`, or one part of it.

    Raises:
        AccessError: a secrets file is not valid TOML.
    """
    auth: dict[str, object] = {}
    for path in secrets_files() if files is None else files:
        if path.is_file():
            auth |= _read(path).get("auth", {})
    if not (auth.get("redirect_uri") and auth.get("cookie_secret")):
        return False
    providers = [auth, *(part for part in auth.values() if isinstance(part, dict))]
    return any(all(provider.get(key) for key in _PROVIDER_KEYS) for provider in providers)


def _read(path: Path) -> dict[str, dict[str, object]]:
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise AccessError(f"{path} is not valid TOML: {error}.", "Correct the file, or remove it.") from error


def refuse_unprotected(
    address: str | None, environment: Mapping[str, str] = os.environ, files: tuple[Path, ...] | None = None
) -> None:
    """Let the app bind to `address` only if it is loopback or visitors have to identify themselves.

    Raises:
        AccessError: another machine could reach the app without a token or a sign-in.
    """
    if is_loopback(address) or token(environment) or sign_in_configured(files):
        return
    raise AccessError(
        f"The address {address or '(every interface)'!r} can be reached from other machines, "
        "and nothing protects the app.",
        f"Bind to 127.0.0.1, set {TOKEN} to a secret of at least {MINIMUM} characters, "
        "or configure [auth] in .streamlit/secrets.toml.",
    )
