"""What the child is asked to do in test_sandbox: each function stands for what a hostile file makes a reader do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from surgery.errors import DataError, Problem


def echo(argument: dict[str, Any]) -> dict[str, Any]:
    return argument


def refuse(argument: dict[str, Any]) -> None:
    raise DataError("Row 3 is bad.", "Correct it.", [Problem("row 3", "It is bad.", "Correct it.")])


def fail(argument: dict[str, Any]) -> None:
    raise KeyError("\ud800\n\x1b[31m")


def grow(argument: dict[str, Any]) -> int:
    return len(bytearray(4 << 30))


def spin(argument: dict[str, Any]) -> None:
    while True:
        pass


def sleep(argument: dict[str, Any]) -> None:
    time.sleep(60)


def abort(argument: dict[str, Any]) -> None:
    os.kill(os.getpid(), 11)


def write(argument: dict[str, Any]) -> None:
    Path(argument["path"]).write_bytes(bytes(argument["size"]))


def make(argument: dict[str, Any]) -> None:
    Path(argument["path"]).mkdir()


def remove(argument: dict[str, Any]) -> None:
    Path(argument["path"]).unlink()


def clear(argument: dict[str, Any]) -> None:
    (Path(argument["path"]) / "file").touch()
    shutil.rmtree(argument["path"])


def read(argument: dict[str, Any]) -> str:
    return Path(argument["path"]).read_text()


def start(argument: dict[str, Any]) -> None:
    subprocess.run(["true"], check=True)


def connect(argument: dict[str, Any]) -> None:
    socket.create_connection(("127.0.0.1", 9))


def count(argument: dict[str, Any]) -> Iterator[tuple[dict[str, int], list[bytes]]]:
    """Yield numbers; at `bad` do what `then` names."""
    for number in range(argument["first"], argument["last"]):
        if number == argument.get("bad"):
            globals()[argument["then"]](argument)
        yield {"number": number}, [bytes([number]) * 3, b""]


def work(argument: dict[str, Any]) -> Iterator[tuple[int, list[bytes]]]:
    """Spend a second of processor time on each of four items."""
    for number in range(4):
        end = time.process_time() + 1.0
        while time.process_time() < end:
            pass
        yield number, []


def talk(argument: dict[str, Any]) -> Iterator[tuple[int, list[bytes]]]:
    """Print more than a pipe holds."""
    sys.stderr.write("x" * 300_000 + "\n")
    print("y" * 300_000)
    yield 1, []
