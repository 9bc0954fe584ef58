"""Run one of our own generator functions on untrusted content, in the limited child of `surgery.sandbox`.

What it yields, (JSON, buffers), comes back while it runs; the child is never more than a few items ahead. Each item has
the seconds of the limits to itself, so that a reader of many parts can be stopped at the one that does not end, and be
started again behind it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import subprocess
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from surgery.errors import SurgeryError
from surgery.sandbox import COMMAND, TAIL, Limits, ended, environment, opened, over, request_of

_log = logging.getLogger(__name__)
_ITEM_BYTES = 1 << 30  # of one item; a child that announces more is not ours any more
_AHEAD = 2  # items that are held ready
_Item = tuple[dict[str, Any] | None, list[bytes]]


class Stopped(Exception):
    """The child of a stream was stopped or crashed on the way; `error` says why, for who cannot go on without it."""

    def __init__(self, error: SurgeryError) -> None:
        super().__init__(str(error))
        self.error = error


def stream(
    target: str,
    argument: Mapping[str, Any],
    limits: Limits,
    *,
    name: str,
    error: type[SurgeryError],
    imports: Sequence[str] = (),
    readable: Sequence[Path] = (),
) -> Generator[tuple[Any, list[bytes]], None, None]:
    """Yield what the generator function `target` of ours yields for `argument`: (JSON, buffers), one item at a time.

    `limits.seconds` is the processor time of one item. The child ends with the generator. Otherwise as `sandbox.call`.

    Raises:
        SurgeryError: what the function raised, as `error` where it is something else.
        Stopped: an item exceeded a limit, or the child crashed over it.
    """
    request = {**request_of(target, argument, limits, imports, readable, ()), "stream": True}
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment()) as child:
        assert child.stdin and child.stdout and child.stderr  # pipes, as asked for
        items = _Receiver(child.stdout)
        printed = _Printed(child.stderr)
        try:
            with contextlib.suppress(BrokenPipeError), child.stdin as given:
                given.write(json.dumps(request).encode())
            while True:
                try:
                    answer, buffers = items.get(limits.patience * limits.seconds)
                except queue.Empty:
                    raise Stopped(over(name, "time", limits, error)) from None
                if answer is None:
                    raise Stopped(ended(child.wait(), name, limits, error))
                if "limit" in answer:
                    raise Stopped(over(name, answer["limit"], limits, error))
                result = opened(answer, name, error)
                if result is None:
                    return
                yield result, buffers
        finally:
            child.kill()
            items.close()
            if text := printed.close():
                _log.warning("reading %s: %s", name, text)


class _Receiver:
    """Reads the items of a stream in a thread of its own, a few ahead; (None, []) is the end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._items: queue.Queue[_Item] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def get(self, seconds: float) -> _Item:
        """The next item, or queue.Empty after `seconds`."""
        return self._items.get(timeout=seconds)

    def close(self) -> None:
        """Forget what was not asked for; the child has ended."""
        self._closed.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._items.get_nowait()
            self._thread.join(0.01)

    def _receive(self) -> None:
        while not self._closed.is_set():
            item = _read_item(self._pipe)
            self._items.put(item)
            if item[0] is None:
                return


class _Printed:
    """Collects the end of what a child prints, so that its pipe never fills up."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._text = b""
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def close(self) -> str:
        """What was printed last."""
        self._thread.join()
        return self._text.decode("utf-8", errors="replace").strip()

    def _collect(self) -> None:
        for line in self._pipe:
            self._text = (self._text + line)[-TAIL:]


def _read_item(pipe: IO[bytes]) -> _Item:
    """One item as the child wrote it, or (None, []) where there is no whole one."""
    length = int.from_bytes(pipe.read(8), "little")
    if not 0 < length <= _ITEM_BYTES:
        return None, []
    head = pipe.read(length)
    if len(head) < length:
        return None, []
    answer: dict[str, Any] = json.loads(head)
    sizes = answer.get("sizes", ())
    if sum(sizes) > _ITEM_BYTES:
        return None, []
    buffers = [pipe.read(size) for size in sizes]
    return (answer, buffers) if [len(one) for one in buffers] == list(sizes) else (None, [])
