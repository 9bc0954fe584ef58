"""Wrong tokens, counted by address: each makes the next attempt from there wait longer.

An attempt that comes too early is refused without a look at its token, so that nobody waits inside the server and
guessing is slow however many connections it uses.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

LONGEST = 60.0  # seconds between two attempts, at most
FORGOTTEN = 900.0  # seconds after which an address starts again without a wait
REMEMBERED = 10_000  # addresses; beyond, the one whose attempt is longest ago is forgotten
_log = logging.getLogger(__name__)


@dataclass
class _Record:
    count: int = 0
    last: float = 0.0


class Attempts:
    """Remember failed attempts. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def wait(self, address: str | None, now: float | None = None) -> float:
        """Return how many seconds this address has to wait until its next attempt; 0.0 when it may try."""
        record = self._records.get(_network(address))
        if record is None:
            return 0.0
        passed = (time.monotonic() if now is None else now) - record.last
        pause = min(2.0 ** min(record.count - 1, 10), LONGEST)
        return 0.0 if passed >= FORGOTTEN else max(0.0, pause - passed)

    def failed(self, address: str | None, now: float | None = None) -> None:
        """Count a wrong token and log the address and the count."""
        now = time.monotonic() if now is None else now
        network = _network(address)
        record = self._records.setdefault(network, _Record())
        record.count = 1 if now - record.last >= FORGOTTEN else record.count + 1
        record.last = now
        self._records.move_to_end(network)
        while len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        _log.warning("Wrong access token from %s: attempt %d", network, record.count)

    def succeeded(self, address: str | None) -> None:
        """Forget the address."""
        self._records.pop(_network(address), None)

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._records)


def _network(address: str | None) -> str:
    """What is counted as one visitor: an IPv4 address, or the /64 network that one IPv6 customer has."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
