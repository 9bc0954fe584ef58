"""Who may reach the app: anybody on this machine; over the network only with a token or a sign-in provider.

SURGERY_TOKEN is a shared secret that visitors enter. OpenID Connect is Streamlit's `[auth]` section in
`.streamlit/secrets.toml`. SURGERY_HOSTS names the hosts by which visitors address the app. Everything here is decided
without Streamlit, so the command line asks the same; `surgery.ui.gate` enforces it.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from surgery.errors import AccessError

TOKEN = "SURGERY_TOKEN"
HOSTS = "SURGERY_HOSTS"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MINIMUM = 16  # characters: 16 hexadecimal digits are 64 bits, out of reach for guessing over HTTP
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
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


def host_names(address: str | None, environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the names by which a server bound to `address` may be addressed, in lower case, IPv6 without brackets.

    Always the loopback names, the address itself and the names in SURGERY_HOSTS. A server on every interface goes by
    the IP addresses of this machine too: no foreign name can be made to look like a number.

    Raises:
        AccessError: SURGERY_HOSTS holds what is no host name.
    """
    bound = (address or "").strip("[]").lower()
    own = _interfaces() if bound in ("", "0.0.0.0", "::") else [bound]
    named = [name.strip().lower().rstrip(".") for name in environment.get(HOSTS, "").split(",") if name.strip()]
    return LOOPBACK.union(own, (_host_name(name) for name in named))


def shown(address: str) -> str:
    """Return what a browser on this machine puts into its address bar for a server bound to `address`."""
    bare = address.strip("[]")
    if bare in ("", "0.0.0.0", "::"):
        return "localhost"
    return f"[{bare}]" if ":" in bare else bare


def _host_name(name: str) -> str:
    bare = name.strip("[]")
    if not _HOST_NAME.fullmatch(bare) and not _is_ip(bare):
        raise AccessError(
            f"{HOSTS}: {name!r} is not a host name.", "Give names alone, separated by commas: surgery.example,10.0.0.5"
        )
    return bare


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _interfaces() -> Iterator[str]:
    """The IP addresses of this machine."""
    for addresses in psutil.net_if_addrs().values():
        yield from (bare for each in addresses if _is_ip(bare := each.address.partition("%")[0]))


def secrets_files() -> tuple[Path, ...]:
    """Return where Streamlit looks for secrets, the more specific last."""
    folders = (Path.home(), Path.cwd(), Path(__file__).parents[2])
    return tuple(dict.fromkeys(folder / ".streamlit/secrets.toml" for folder in folders))


def providers(files: tuple[Path, ...] | None = None) -> tuple[str, ...]:
    """Return the names of the complete OpenID Connect providers in the secrets; the whole `[auth]` is "default".

    Raises:
        AccessError: a secrets file is not valid TOML, or what signs the visitors' cookies can be guessed.
    """
    auth: dict[str, object] = {}
    for path in secrets_files() if files is None else files:
        if path.is_file():
            auth |= _read(path).get("auth", {})
    parts = {"default": auth} | {name: part for name, part in auth.items() if isinstance(part, dict)}
    found = tuple(name for name, part in parts.items() if all(part.get(key) for key in _PROVIDER_KEYS))
    secret = auth.get("cookie_secret")
    if not found or not auth.get("redirect_uri") or not secret:
        return ()
    if len(str(secret)) < MINIMUM:
        raise AccessError(
            f"cookie_secret in [auth] has {len(str(secret))} characters; at least {MINIMUM} are needed.",
            'Make one with: python -c "import secrets; print(secrets.token_hex(32))"',
        )
    return found


def sign_in_configured(files: tuple[Path, ...] | None = None) -> bool:
    """Say whether there is a complete OpenID Connect provider."""
    return bool(providers(files))


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
