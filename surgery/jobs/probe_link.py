"""How pages and probes find and talk to each other: a card with the address and its key, and JSON as bytes.

A card is a file that only its owner can read, put in place whole by the probe that serves; its process id and start
time tell a living probe from what a killed one left. Messages are `send_bytes` and `recv_bytes`: nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from surgery import errors, temporary
from surgery.children import Identity, me
from surgery.errors import JobError, SurgeryError

CARD = "probe.json"
ASKER = "asker"
LONGEST = 16 * 2**20  # bytes of one message
FRESH = 10.0  # seconds for which a dead probe's card is left alone: somebody may be replacing it
PATH_LIMIT = 80  # characters of a socket's folder: the system allows about 100 for the whole path


@dataclass(frozen=True)
class Card:
    """Where a probe listens and which process it is."""

    address: str
    key: str  # hex
    pid: int
    born: float  # start of the process, what `children.born` says

    @classmethod
    def of(cls, folder: Path) -> Card | None:
        """The card of the probe that serves from `folder`; None when there is none or its process is gone."""
        try:
            card = cls(**json.loads((folder / CARD).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return card if card.living else None

    @property
    def living(self) -> bool:
        """Whether its process still runs."""
        return Identity(self.pid, self.born).living

    def publish(self, folder: Path) -> bool:
        """Put the card into `folder` unless a living probe has its own there; whether it was put."""
        mine = folder / f"{CARD}.{self.pid}"
        with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self), file)
        try:
            if Card.of(folder) is None:
                (folder / CARD).unlink(missing_ok=True)
            os.link(mine, folder / CARD)  # unlike a rename, this fails when the place is taken
        except FileExistsError:
            return False
        finally:
            mine.unlink()
        return True

    def withdraw(self, folder: Path) -> None:
        """Take the card away if it is still this one."""
        if Card.of(folder) == self:
            (folder / CARD).unlink(missing_ok=True)

    def connect(self) -> Connection[Any, Any]:
        """A connection, the key proven on both sides. Raises OSError, EOFError or AuthenticationError."""
        return Client(self.address, authkey=bytes.fromhex(self.key))


@contextmanager
def listening() -> Iterator[tuple[Listener, Card]]:
    """A listener for this process only reachable with the key on its card."""
    process, key = me(), os.urandom(32)
    folder = temporary.create(temporary.SHORT, short_place()) if hasattr(socket, "AF_UNIX") else None
    try:
        with Listener(str(folder / "s") if folder else None, authkey=key) as listener:
            yield listener, Card(str(listener.address), key.hex(), process.pid, process.born)
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def short_place() -> str:
    """The folder for temporary files, with a path short enough for a socket."""
    return tempfile.gettempdir() if len(tempfile.gettempdir()) < PATH_LIMIT else "/tmp"


def sweep(probes: Path) -> None:
    """Remove the cards that probes which were killed left below `probes`, and their temporary folders."""
    temporary.sweep(short_place())
    for card in probes.glob(f"*/{CARD}*"):
        try:
            found = Identity(**{key: json.loads(card.read_text("utf-8"))[key] for key in ("pid", "born")})
            if not found.living and time.time() - card.stat().st_mtime > FRESH:
                card.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just replaced, or no card of ours


def signed(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request with the process that asks: a probe lives no longer than those who ask it."""
    return {**request, ASKER: [me().pid, me().born]}


def asker_of(request: dict[str, Any]) -> Identity | None:
    """Take the process that asks out of a request; None when it does not say."""
    match request.pop(ASKER, None):
        case [int(pid), int() | float() as born]:
            return Identity(pid, float(born))
    return None


def send(connection: Connection[Any, Any], message: Mapping[str, Any]) -> None:
    """Send one JSON object."""
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Connection[Any, Any]) -> dict[str, Any]:
    """Wait for one JSON object.

    Raises:
        OSError: the message is too long, or the connection broke. EOFError: it was closed. ValueError: not JSON.
    """
    message = json.loads(connection.recv_bytes(LONGEST))
    if not isinstance(message, dict):
        raise ValueError(f"a message is a JSON object, this one is a {type(message).__name__}")
    return message


def failure(error: SurgeryError) -> dict[str, Any]:
    """An error as an answer."""
    return {"error": {"kind": type(error).__name__, "what": error.what, "fix": error.fix}}


def raised(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless it is an error: that is raised in its own class."""
    if "error" not in answer:
        return answer
    error = answer["error"]
    kind = getattr(errors, str(error.get("kind")), JobError)
    if not (isinstance(kind, type) and issubclass(kind, SurgeryError)):
        kind = JobError
    raise kind(str(error.get("what")), str(error.get("fix", "")))
