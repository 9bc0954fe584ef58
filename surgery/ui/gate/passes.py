"""The cookie of a visitor who has shown the token: an expiry and its signature, nothing to look up on the server.

The key comes from the token, so a restart keeps visitors in and a new token lets nobody in with an old cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import time

LIFETIME = 7 * 24 * 3600  # seconds
_PURPOSE = b"model-surgery visitor cookie"


class Passes:
    """Issue and check cookies for one token."""

    def __init__(self, token: str) -> None:
        # scrypt, because whoever sees a cookie could else try tokens on their own machine, as fast as a hash runs.
        self._key = hashlib.scrypt(token.encode(), salt=_PURPOSE, n=2**14, r=8, p=1, dklen=32)
        # Cookies are shared by all ports of a host: two apps with two tokens must not overwrite each other's.
        self.name = f"surgery_visitor_{self._sign('name')[:8]}"

    def issue(self, now: float | None = None) -> str:
        """Return a cookie that is valid for `LIFETIME` seconds from `now` (Unix time)."""
        until = str(int((time.time() if now is None else now) + LIFETIME))
        return f"{until}.{self._sign(until)}"

    def holds(self, cookie: str, now: float | None = None) -> bool:
        """Say whether `issue` made this cookie with the same token, and it has not expired."""
        until, _dot, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(until).encode()):
            return False
        return int(until) > (time.time() if now is None else now)

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()
