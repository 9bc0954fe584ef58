"""How long a test waits for what must happen: a bound that ends a hang, never a claim about speed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

SECONDS = float(os.environ.get("SURGERY_TEST_PATIENCE", 900))
MILLISECONDS = 1000 * SECONDS


def until(happened: Callable[[], object], what: str = "it") -> None:
    """Look fifty times a second until something has happened."""
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, f"{what} did not happen within {SECONDS:.0f} s"
        time.sleep(0.02)
