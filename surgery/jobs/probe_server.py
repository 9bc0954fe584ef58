"""The probe process: one warm model that answers questions until nobody has asked for ten minutes.

One thread computes (native thread pools belong to the thread that uses them), another accepts, and each connection
waits in its own for the answer, so that a ping is answered while the model warms up. Nothing here writes versions.
"""

from __future__ import annotations

import logging
import os
import shutil
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

from surgery import temporary
from surgery.children import Identity
from surgery.errors import DeviceMemoryError, JobError, SurgeryError
from surgery.jobs.obituary import explained
from surgery.jobs.probe_link import Card, asker_of, failure, listening, receive, send

IDLE = 600.0  # seconds without a question after which the process ends
FAREWELL = 2.0  # seconds for sending the last answer
WATCH = 1.0  # seconds between two looks at whether anybody who asked still lives
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
        self.askers: dict[Identity, float] = {}  # who asked, and when last
        self.ended = Event()
        self.card: Card | None = None

    def run(self) -> None:
        """Serve until idle, stopped, left alone or unable to warm up; leave when another probe already serves here."""
        with listening() as (listener, card):
            if not card.publish(self.folder):
                return
            self.card = card
            try:
                Thread(target=self._accept, args=(listener,), daemon=True).start()
                self._answer_all()
            finally:
                self.ended.set()
                card.withdraw(self.folder)

    def stop(self) -> None:
        """End after the question that is being answered."""
        self.questions.put(None)

    def end(self, leave: Callable[[], object]) -> None:
        """Take away what others would find, then `leave`: for an end in the middle of a question."""
        if self.card is not None:
            self.card.withdraw(self.folder)
            if Path(self.card.address).parent.name.startswith(temporary.SHORT):
                shutil.rmtree(Path(self.card.address).parent, ignore_errors=True)
        leave()

    def asked_by(self, asker: Identity) -> None:
        """Remember who asks."""
        self.askers[asker] = time.monotonic()

    def end_with_askers(self, leave: Callable[[], object], *, every: float = WATCH) -> None:
        """Look in a thread whether whoever asked in the last `idle` seconds still lives; end when nobody does.

        leave: ends the process, called when a question is being answered that nobody waits for any more.
        """

        def look() -> None:
            while not self.ended.wait(every):
                if self.abandoned():
                    self.stop()
                    if not self.ended.wait(FAREWELL):
                        self.end(leave)
                    return

        Thread(target=look, daemon=True, name="askers").start()

    def abandoned(self) -> bool:
        """Whether somebody has asked, and all who did lately are gone."""
        now = time.monotonic()
        lately = [who for who, when in list(self.askers.items()) if now - when < self.idle]
        return bool(lately) and not any(who.living for who in lately)

    def _answer_all(self) -> None:
        """Warm up, then answer; a probe that could not warm up says why to the first who asks, and ends."""
        oracle = guarded(self.open_oracle, "opening the model")
        self.state = "failed" if isinstance(oracle, dict) else "ready"
        while (question := self._next()) is not None:
            if isinstance(oracle, dict):
                question.answer.put(oracle)
                self.told.wait(FAREWELL)
                return
            doing = f"answering {question.request.get('what')!r}"
            question.answer.put(guarded(partial(oracle.answer, question.request), doing))

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
            if (asker := asker_of(request)) is not None:
                self.asked_by(asker)
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


def guarded(make: Callable[[], Any], doing: str = "answering") -> Any:
    """What `make` returns, or its error as an answer: a question must not end the probe. doing: for its words."""
    try:
        return make()
    except SurgeryError as error:
        return failure(error)
    except Exception as error:
        logging.exception("failed while %s", doing)
        told = explained(error, "cpu", doing)
        if isinstance(told, DeviceMemoryError):
            told = DeviceMemoryError(
                "The what-if ran out of memory.", "Close other models, or choose the CPU as its device."
            )
        return failure(told)


def settle() -> None:
    """Make this process a polite one: low priority, its log on stderr, an orderly end when it is terminated."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    if hasattr(os, "nice"):
        os.nice(NICE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
