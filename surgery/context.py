"""What a long computation is given: a device, a seed, a place to report to and a way to be stopped.

for x, y in ctx.track(batches, "tuning", total=40):
    ...
    ctx.point(loss=float(loss))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

from surgery.errors import Cancelled

Item = TypeVar("Item")
Report = Callable[[Mapping[str, object]], None]


def _quiet(_: Mapping[str, object]) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Context:
    """Device, seed, progress and cancellation of one computation.

    `report` receives flat JSON-able events: `{"stage", "done", "total", "seconds"}` from `track`,
    `{"point": {...}}` from `point`, `{"log": text}` from `log`.
    """

    device: str = "cpu"
    seed: int = 0
    report: Report = _quiet
    cancelled: Callable[[], bool] = field(default=lambda: False)
    every: float = 0.2  # seconds between two progress events
    offer: Callable[[Any], None] = field(default=lambda _: None)  # takes results on the way, to be kept for choosing

    def track(self, items: Iterable[Item], stage: str, total: int | None = None) -> Iterator[Item]:
        """Yield `items`, reporting how many are done.

        Raises:
            Cancelled: before the next item, once `cancelled()` is true.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        start = last = time.monotonic()
        done = 0
        self._progress(stage, 0, total, 0.0)
        for item in items:
            if self.cancelled():
                raise Cancelled(f"Cancelled while {stage}, at step {done} of {total or 'unknown'}.")
            yield item
            done += 1
            now = time.monotonic()
            if done == 1 or now - last >= self.every:
                last = now
                self._progress(stage, done, total, now - start)
        self._progress(stage, done, done, time.monotonic() - start)

    def point(self, **values: float) -> None:
        """Report one point of a live curve, for instance `point(loss=0.3)`."""
        self.report({"point": values})

    def log(self, text: str) -> None:
        """Report one line for the log."""
        self.report({"log": text})

    def _progress(self, stage: str, done: int, total: int | None, seconds: float) -> None:
        self.report({"stage": stage, "done": done, "total": total, "seconds": round(seconds, 3)})
