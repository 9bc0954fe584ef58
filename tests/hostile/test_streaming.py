"""The child that yields: items come back in order, each has a time of its own, and an end on the way is told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from surgery import streaming
from surgery.errors import DataError
from surgery.sandbox import Limits
from surgery.streaming import Stopped

pytestmark = pytest.mark.hostile
HERE = Path(__file__).parent
QUICK = Limits(seconds=2, memory=256 << 20, patience=30)  # a slow machine needs long to start a child


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the child find `strangers`."""
    monkeypatch.setenv("PYTHONPATH", ":".join([str(HERE), *(path for path in sys.path if path)]))


def ask(function: str, **argument: Any) -> Iterator[tuple[Any, list[bytes]]]:
    return streaming.stream(f"strangers:{function}", argument, QUICK, name="x.bin", error=DataError)


def test_items_come_in_order_with_their_buffers() -> None:
    found = list(ask("count", first=0, last=9))
    assert [item["number"] for item, _ in found] == list(range(9))
    assert found[7][1] == [b"\7\7\7", b""]


@pytest.mark.parametrize(
    ("then", "words"), [("spin", "longer than 2 s"), ("grow", "MB of memory"), ("abort", "crashed")]
)
def test_items_before_the_end_are_kept(then: str, words: str) -> None:
    numbers = []
    with pytest.raises(Stopped, match=words) as caught:
        numbers += [item["number"] for item, _ in ask("count", first=0, last=9, bad=5, then=then)]
    assert isinstance(caught.value.error, DataError)
    items = ask("count", first=0, last=9, bad=5, then=then)
    assert [next(items)[0]["number"] for _ in range(5)] == [0, 1, 2, 3, 4]
    items.close()


def test_an_error_of_the_function_is_no_stop() -> None:
    with pytest.raises(DataError, match="Row 3 is bad"):
        list(ask("count", first=0, last=9, bad=5, then="refuse"))
    with pytest.raises(DataError, match=r"x\.bin cannot be read"):
        list(ask("count", first=0, last=9, bad=5, then="fail"))


def test_every_item_has_the_time_to_itself() -> None:
    assert [number for number, _ in ask("work")] == [0, 1, 2, 3], "four seconds in all, two are allowed for one"


def test_what_is_printed_blocks_nothing() -> None:
    assert [number for number, _ in ask("talk")] == [1]


def test_who_stops_listening_leaves_no_child_and_no_thread() -> None:
    threads, children = threading.active_count(), psutil.Process().children()
    items = ask("count", first=0, last=200)
    next(items)
    items.close()
    assert psutil.Process().children() == children
    assert threading.active_count() == threads
