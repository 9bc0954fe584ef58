"""Hostile data through the real entry points: a sentence or a dataset, in bounded memory and time."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from surgery.data import limited
from surgery.data.dataset import Dataset
from surgery.data.names import visible
from surgery.errors import DataError, DiskFullError
from tests.hostile.data_generators import FAMILIES

pytestmark = pytest.mark.hostile
GROWTH = 500 << 20  # bytes that the calling process may take beyond what it had
SEEDS = 1  # of each family; the benchmark takes more


class Peak:
    """The most memory of this process and of its children together with one of them, in bytes."""

    own = 0
    child = 0


@contextmanager
def watched() -> Iterator[Peak]:
    """Measure while something runs."""
    peak, process, over = Peak(), psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.02):
            peak.own = max(peak.own, process.memory_info().rss - before)
            for child in process.children():
                try:
                    peak.child = max(peak.child, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def attempt(path: Path, folder: Path) -> str:
    """Look at a file, and import it with what the page would choose; what became of it, in words."""
    try:
        look = limited.look(path, last=True)
        text = look.found.kind in ("csv", "parquet")
        target = look.target if text else None
        drop = [column.name for column in look.columns if column.dtype in ("text", "empty") and column.name != target]
        data = limited.import_data(path, folder, name=path.name, target=target, drop=drop)
    except (DataError, DiskFullError) as error:
        assert error.what, "says nothing"
        assert error.what.isprintable(), f"has characters that cannot be seen: {error.what!r}"
        assert "Traceback" not in error.what
        assert len(error.what) < 2_000
        return f"{error.what} {error.fix}"
    opened = Dataset.open(data.folder)
    assert len(opened.raw(range(min(3, len(opened))))) == min(3, len(opened))
    assert all(visible(name) == name for name in (*opened.classes, *opened.features))
    assert [opened.source(row) for row in range(min(3, len(opened)))]
    return f"{len(opened)} samples"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an image three seconds of processor time, so that those that take for ever take less of ours."""
    monkeypatch.setattr(limited, "IMPORT", replace(limited.IMPORT, seconds=3, patience=30))


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_hostile_file_ends_in_a_sentence_or_a_dataset(family: str, seed: int, tmp_path: Path) -> None:
    path = FAMILIES[family](random.Random(f"{family} {seed}"), tmp_path)
    with watched() as peak:
        end = attempt(path, tmp_path / "out")
    assert peak.own < GROWTH, end
