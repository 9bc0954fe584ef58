"""The memory limit of workers and probes: how much, and what happens beyond it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from surgery import machine
from surgery.errors import JobError
from surgery.jobs import memory
from tests.jobs.conftest import held
from tests.patience import until


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("512 MB", 512 * 10**6), ("2GiB", 2 * 2**30), ("1.5g", 15 * 10**8), ("300000000", 3 * 10**8)],
)
def test_a_limit_is_a_size_in_words(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("SURGERY_MEMORY", text)
    assert {memory.limit_for(use) for use in memory.SHARES} == {size}


@pytest.mark.parametrize("text", ["much", "-1GB", "8XB", "1MB", "0", "nan", "1e9", "9" * 40 + "T"])
def test_what_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SURGERY_MEMORY", text)
    with pytest.raises(JobError, match=r"SURGERY_MEMORY is .*, which is no size\. Write for instance 8GB"):
        memory.limit_for("long")


def test_without_one_it_is_a_share_of_the_machine_or_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SURGERY_MEMORY", raising=False)
    monkeypatch.setattr(machine, "_GROUPS", ())
    assert machine.memory() == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(machine, "_GROUPS", (str(tmp_path / "memory.max"), str(tmp_path / "absent")))
    assert machine.memory() == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("6000000000\n")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=10**11))
    assert memory.limit_for("long") == 3 * 10**9
    assert memory.limit_for("probe") == 2 * 10**9, "below that torch has no room"


def test_what_is_mapped_from_files_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"\1" * (100 * 2**20))
    before = memory.own()
    mapped = np.memmap(tmp_path / "large", mode="r")
    assert int(mapped[::4096].sum()) == len(mapped) // 4096
    assert memory.own() - before < 50 * 2**20
    owned = np.ones(100 * 2**20, dtype=np.uint8)
    assert memory.own() - before > 75 * 2**20 and owned[0]


def test_it_is_told_first_and_ended_when_that_does_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EVERY", 0.01)
    monkeypatch.setattr(memory, "PATIENCE", 0.05)
    said: list[str] = []
    over = threading.Event()

    def end() -> None:
        said.append("ended")
        over.set()

    memory.Watch(100, told=lambda: said.append("told"), end=end, measure=lambda: 105).start()
    assert over.wait(10) and said == ["told", "ended"]


def test_who_gives_memory_back_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EVERY", 0.001)
    taken = [50, 105, 105, *[50] * 100_000]
    said: list[str] = []
    watch = memory.Watch(
        100, told=lambda: said.append("told"), end=lambda: said.append("ended"), measure=lambda: taken.pop(0)
    ).start()
    until(lambda: len(taken) <= 99_950, "fifty measurements")
    watch.stop()
    assert said == ["told"]


@pytest.mark.parametrize("how", ["slowly", "at once"])
def test_a_worker_beyond_its_limit_fails_and_says_so(ws, submit, ended, monkeypatch, how):
    monkeypatch.setenv("SURGERY_MEMORY", "300MB")
    failed = ended(submit("hungry", how=how))
    assert failed.state == "failed" and held(ws) == []
    assert "needed more than its memory limit of 0.3 GB and was stopped. Nothing was changed." in failed.reason
    assert "SURGERY_MEMORY=" in failed.reason


def test_a_wrong_limit_fails_the_job_in_words(submit, ended, monkeypatch):
    monkeypatch.setenv("SURGERY_MEMORY", "plenty")
    failed = ended(submit("nap"))
    assert failed.state == "failed" and "SURGERY_MEMORY is 'plenty', which is no size" in failed.reason


def test_a_worker_knows_that_nothing_is_unpickled(submit, ended, monkeypatch):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert ended(submit("nap")).result["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
