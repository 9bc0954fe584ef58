"""The child that reads untrusted content: its limits hold, and every end of it becomes an error that names the file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from surgery import sandbox
from surgery.errors import DataError, ModelFileError
from surgery.sandbox import Limits

pytestmark = pytest.mark.hostile
HERE = Path(__file__).parent
QUICK = Limits(seconds=2, memory=256 << 20, written=1000, patience=30)  # a slow machine needs long to start a child


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the child find `strangers`."""
    monkeypatch.setenv("PYTHONPATH", ":".join([str(HERE), *(path for path in sys.path if path)]))


def ask(
    function: str,
    *,
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    limits: Limits = QUICK,
    **argument: Any,
) -> Any:
    return sandbox.call(
        f"strangers:{function}",
        argument,
        limits,
        name="x.bin",
        error=ModelFileError,
        readable=readable,
        writable=writable,
    )


def test_what_the_function_returns_comes_back() -> None:
    assert ask("echo", text="ä\n", numbers=[1, 2.5, None]) == {"text": "ä\n", "numbers": [1, 2.5, None]}


def test_an_error_of_ours_keeps_its_class_and_rows() -> None:
    with pytest.raises(DataError, match="Row 3 is bad") as caught:
        ask("refuse")
    assert caught.value.problems[0].where == "row 3"
    assert caught.value.fix == "Correct it."


def test_any_other_exception_names_the_file_and_is_printable() -> None:
    with pytest.raises(ModelFileError, match=r"x\.bin cannot be read") as caught:
        ask("fail")
    assert caught.value.what.isprintable()


@pytest.mark.parametrize(
    ("function", "words"),
    [("grow", "MB of memory"), ("spin", "longer than 2 s"), ("abort", "crashed")],
)
def test_a_limit_is_named(function: str, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        ask(function)


def test_one_that_only_waits_is_ended_too() -> None:
    with pytest.raises(ModelFileError, match="longer than 1 s"):
        ask("sleep", limits=Limits(seconds=1, patience=1))


def test_files_are_written_in_the_named_folder_alone_and_up_to_the_limit(tmp_path: Path) -> None:
    ask("write", path=str(tmp_path / "small"), size=10, writable=[tmp_path])
    assert (tmp_path / "small").stat().st_size == 10
    with pytest.raises(ModelFileError, match="writes more than"):
        ask("write", path=str(tmp_path / "large"), size=100_000, writable=[tmp_path])
    with pytest.raises(ModelFileError, match="outside its own folder"):
        ask("write", path=str(tmp_path / "other"), size=1, readable=[tmp_path])
    assert not (tmp_path / "other").exists()


def test_files_are_read_in_the_named_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a").write_text("yes")
    (tmp_path / "secret").write_text("no")
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    assert ask("read", path=str(tmp_path / "inside" / "a"), readable=[tmp_path / "inside"]) == "yes"
    for path in (tmp_path / "secret", tmp_path / "inside" / "link", tmp_path / "inside" / ".." / "secret"):
        with pytest.raises(ModelFileError, match="outside its own folder"):
            ask("read", path=str(path), readable=[tmp_path / "inside"])


def test_nothing_is_made_or_removed_outside_the_named_folder(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "kept").write_text("yes")
    ask("make", path=str(tmp_path / "inside" / "made"), writable=[tmp_path / "inside"])
    assert (tmp_path / "inside" / "made").is_dir()
    ask("clear", path=str(tmp_path / "inside" / "made"), writable=[tmp_path / "inside"])
    assert not (tmp_path / "inside" / "made").exists()
    for function, path in (("make", tmp_path / "made"), ("remove", tmp_path / "kept")):
        with pytest.raises(ModelFileError, match="outside its own folder is not allowed"):
            ask(function, path=str(path), readable=[tmp_path], writable=[tmp_path / "inside"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "kept"]


@pytest.mark.parametrize("function", ["start", "connect"])
def test_no_program_is_started_and_nothing_connected(function: str) -> None:
    with pytest.raises(ModelFileError, match="not allowed"):
        ask(function)


def test_reading_turns_any_exception_into_the_error_of_the_kind() -> None:
    with pytest.raises(DataError, match=r"a\.csv cannot be read: RecursionError"), sandbox.reading("a.csv", DataError):
        raise RecursionError
    with pytest.raises(ModelFileError, match="as it was"), sandbox.reading("a.csv", DataError):
        raise ModelFileError("as it was")
