"""The probe process: one warm model that answers questions until nobody has asked for ten minutes.

One thread computes (native thread pools belong to the thread that uses them), another accepts, and each connection
waits in its own for the answer, so that a ping is answered while the model warms up. Nothing here writes versions.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

from surgery.errors import DeviceMemoryError, JobError, SurgeryError
from surgery.jobs.probe_link import failure, listening, receive, send

IDLE = 600.0  # seconds without a question after which the process ends
FAREWELL = 2.0  # seconds for sending the last answer
NICE = 5  # below the pages, above training jobs

Message = Mapping[str, Any]


class Oracle(Protocol):
    """What answers."""

    def answer(self, request: Message) -> dict[str, Any]:
        """A JSON-able answer. Raises SurgeryError."""


@dataclass(frozen=True)
class Question:
    """A request and where its answer is awaited."""

    request: Message
    answer: SimpleQueue[dict[str, Any]] = field(default_factory=SimpleQueue)


class Server:
    """Serves from `folder` what `open_oracle` makes, which is given no time before the first connection."""

    def __init__(self, folder: Path, open_oracle: Callable[[], Oracle], *, idle: float = IDLE) -> None:
        self.folder = folder
        self.open_oracle = open_oracle
        self.idle = idle
        self.questions: SimpleQueue[Question | None] = SimpleQueue()
        self.state = "warming"
        self.asked = time.monotonic()
        self.told = Event()  # some answer has been sent

    def run(self) -> None:
        """Serve until idle, stopped or unable to warm up; at once when another probe already serves here."""
        with listening() as (listener, card):
            if not card.publish(self.folder):
                return
            try:
                Thread(target=self._accept, args=(listener,), daemon=True).start()
                self._answer_all()
            finally:
                card.withdraw(self.folder)

    def _answer_all(self) -> None:
        """Warm up, then answer; a probe that could not warm up says why to the first who asks, and ends."""
        oracle = guarded(self.open_oracle)
        self.state = "failed" if isinstance(oracle, dict) else "ready"
        while (question := self._next()) is not None:
            if isinstance(oracle, dict):
                question.answer.put(oracle)
                self.told.wait(FAREWELL)
                return
            question.answer.put(guarded(partial(oracle.answer, question.request)))

    def _next(self) -> Question | None:
        try:
            return self.questions.get(timeout=self.idle)
        except Empty:
            return None

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except (AuthenticationError, EOFError, ConnectionError) as error:
                logging.warning("refused a connection: %r", error)
                continue
            except OSError:  # the listener was closed: the process ends
                return
            Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: Connection[Any, Any]) -> None:
        """One question, one answer."""
        with connection, suppress(OSError, EOFError):  # whoever asked has gone
            try:
                request = receive(connection)
            except ValueError as error:
                return send(connection, failure(JobError(f"The probe was sent no question: {error}.")))
            send(connection, self._reply(request))
            self.told.set()
        return None

    def _reply(self, request: Message) -> dict[str, Any]:
        what = request.get("what")
        if what in ("ping", "stop"):
            if what == "stop":
                self.questions.put(None)
            return {"state": self.state, "pid": os.getpid(), "idle": time.monotonic() - self.asked}
        self.asked = time.monotonic()
        question = Question(request)
        self.questions.put(question)
        answer = question.answer.get()
        self.asked = time.monotonic()
        return answer


def guarded(make: Callable[[], Any]) -> Any:
    """What `make` returns, or its error as an answer: a question must not end the probe."""
    try:
        return make()
    except SurgeryError as error:
        return failure(error)
    except MemoryError:
        return failure(_out_of_memory())
    except Exception as error:
        logging.exception("a question failed")
        if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch here
            return failure(_out_of_memory())
        return failure(
            JobError(f"The what-if failed: {type(error).__name__}: {error}.", "Its log names the place in the code.")
        )


def _out_of_memory() -> DeviceMemoryError:
    return DeviceMemoryError("The what-if ran out of memory.", "Close other models, or choose the CPU as its device.")


def settle() -> None:
    """Make this process a polite one: low priority, its log on stderr, an orderly end when it is terminated."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    if hasattr(os, "nice"):
        os.nice(NICE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
