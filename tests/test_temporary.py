"""Temporary folders: removed when their owner is gone, and only when they are surely ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from surgery import temporary
from surgery.children import environment, me

MAKE = """
import os, sys
from surgery import temporary
print(temporary.create(sys.argv[2], sys.argv[1]), flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(place: Path, prefix: str) -> Path:
    """What a process that was killed leaves."""
    done = subprocess.run([sys.executable, "-c", MAKE, str(place), prefix], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip())


@pytest.mark.parametrize("prefix", ["sg-", "surgery-read-"])
def test_the_folder_of_a_killed_process_is_removed(place: Path, prefix: str) -> None:
    gone = left(place, prefix)
    assert gone.is_dir() and gone.parent == place
    (gone / "s").write_text("a socket")
    assert temporary.sweep() == 1 and not gone.exists()


def test_what_is_not_surely_ours_stays(place: Path) -> None:
    living = temporary.create("surgery-read-", str(place))
    unmarked, broken, elsewhere = (place / f"sg-{name}" for name in ("a", "b", "c"))
    for folder in (unmarked, broken, elsewhere):
        folder.mkdir()
    (broken / temporary.MARK).write_text("{")
    (elsewhere / temporary.MARK).write_text(json.dumps({"host": "another", "pid": 2**22 - 1, "born": 1.0}))
    (place / "other").mkdir()
    ours = left(place, "sg-")
    (place / "sg-link").symlink_to(ours)
    assert temporary.sweep() == 1 and not ours.exists()
    assert all(folder.exists() for folder in (living, unmarked, broken, elsewhere, place / "other"))


def test_a_number_that_belongs_to_another_process_by_now_keeps_nothing(place: Path) -> None:
    folder = place / "sg-old"
    folder.mkdir()
    (folder / temporary.MARK).write_text(json.dumps({"host": temporary.host(), "pid": me().pid, "born": 1.0}))
    assert temporary.sweep() == 1 and not folder.exists()


def test_a_folder_goes_with_its_block() -> None:
    with temporary.folder("int8") as made:
        assert made.name.startswith("surgery-int8-") and made.stat().st_mode & 0o077 == 0
    assert not made.exists()


def test_a_child_is_told_to_unpickle_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    assert environment(A="b")["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1" and environment(A="b")["A"] == "b"


def test_every_process_is_started_with_that_environment() -> None:
    starts = {}
    for path in Path(temporary.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        starts[path.name] = (len(re.findall(r"subprocess\.(run|Popen)\(", text)), len(re.findall(r"env=", text)))
    used = {name: counts for name, counts in starts.items() if counts[0]}
    assert {"local.py", "probe.py", "devices.py", "resident.py", "sandbox.py"} <= set(used)
    assert {name for name, (started, given) in used.items() if given < started} == set()
