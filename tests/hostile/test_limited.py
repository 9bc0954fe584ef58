"""The limited child: what it shows, what it is stopped over, and what the process that calls is spared."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surgery.context import Context
from surgery.data import limited, limits, source, tablefile
from surgery.data.load import import_data, sniff
from surgery.data.portions import Options, Place, Portion
from surgery.errors import Cancelled, DataError
from tests.hostile.data_generators import good, npy, png, zipped

pytestmark = pytest.mark.hostile
ROOT = Path(__file__).parents[2]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Sixty rows of two numbers and three classes."""
    numbers = np.arange(60)
    return pd.DataFrame({"a": numbers * 0.5, "b": numbers % 7, "kind": [f"k{number % 3}" for number in range(60)]})


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the child find the readers of this folder instead of its own."""
    monkeypatch.setenv("PYTHONPATH", ":".join([str(Path(__file__).parent), *(path for path in sys.path if path)]))


def images(folder: Path, *more: tuple[str, bytes]) -> Path:
    return zipped(folder / "a.zip", [*good(random.Random(0)), *more])


# What is shown


def test_a_look_says_at_once_what_took_three_questions(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(tmp_path / "t.parquet")
    found = limited.look(tmp_path / "t.parquet", 6, last=True)
    assert (found.found.kind, found.found.entries, found.target) == ("parquet", 60, "kind")
    assert [column.dtype for column in found.columns] == ["number", "integer", "text"]
    assert sorted(label for _, label in found.samples) == ["k0", "k0", "k1", "k1", "k2", "k2"]
    assert isinstance(found.samples[0][0], dict)
    assert list(found.samples[0][0]) == ["a", "b"]
    assert limited.look(tmp_path / "t.parquet", target="b").target == "b"


def test_pictures_come_as_png_large_enough_to_see(tmp_path: Path) -> None:
    found = limited.look(images(tmp_path))
    assert (found.found.kind, found.found.entries, found.columns) == ("image zip", 10, [])
    assert [label for _, label in found.samples] == ["a", "b"] * 5
    assert all(isinstance(picture, bytes) and picture.startswith(b"\x89PNG") for picture, _ in found.samples)
    assert struct.unpack(">II", found.samples[0][0][16:24]) == (72, 72)  # of 6 pixels


def test_nothing_is_decoded_in_the_process_that_looks(tmp_path: Path, frame: pd.DataFrame) -> None:
    """The server's own process loads neither the decoders nor what is in the file."""
    frame.to_parquet(tmp_path / "t.parquet")
    script = (
        "import sys\nfrom pathlib import Path\nfrom surgery.data import limited\n"
        "for name in sys.argv[1:]: limited.look(Path(name), last=True)\n"
        "loaded = {'pyarrow.parquet', 'pandas', 'surgery.data.images', 'surgery.data.parquetfile'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    names = [str(tmp_path / "t.parquet"), str(images(tmp_path))]
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_samples_that_are_not_ready_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "PATIENCE", -1.0)
    found = limited.look(images(tmp_path))
    assert found.found.entries == 10
    assert found.samples == []


def test_a_look_that_crashes_over_a_sample_shows_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strange: None
) -> None:
    monkeypatch.setattr(limited, "CHILD", "slow_reader")
    found = limited.look(images(tmp_path))
    assert (found.found.entries, len(found.samples)) == (10, 2)
    (tmp_path / "early.csv").write_text("a,b\n" + "1,2\n" * 20)
    with pytest.raises(DataError, match=r"Reading 'early\.csv' crashed"):
        limited.look(tmp_path / "early.csv")


def test_an_import_in_the_child_is_the_same(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((40, 4, 4)), y=np.array(["p", "q"] * 20))
    (tmp_path / "t.txt").write_text("the cat sat on the mat.\n" * 2_000)
    wide = ("a/wide.png", png(random.Random(9), (6, 12)))
    given: list[tuple[Path, dict[str, Any]]] = [
        (tmp_path / "t.csv", {"target": "kind"}),
        (tmp_path / "t.parquet", {"target": "a", "drop": ["kind"]}),
        (tmp_path / "a.npz", {}),
        (tmp_path / "t.txt", {"context": 12}),
        (images(tmp_path, wide, ("b/bad.png", b"none")), {"size": (4, 5)}),
    ]
    for place, (path, options) in enumerate(given):
        here = import_data(path, tmp_path / f"here{place}", name="n", **options)
        there = limited.import_data(path, tmp_path / f"there{place}", name="n", **options)
        assert here.digest == there.digest, path.name
        assert (here.notes, here.problems, here.classes) == (there.notes, there.problems, there.classes)


# What a child is stopped over


def test_an_image_that_takes_too_long_is_named_and_the_rest_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strange: None
) -> None:
    monkeypatch.setattr(limited, "IMPORT", replace(limited.IMPORT, seconds=1, patience=60))
    monkeypatch.setattr(limited, "CHILD", "slow_reader")
    data = limited.import_data(
        images(tmp_path, ("a/slow.png", b"SLOW"), ("b/crash.png", b"CRASH")), tmp_path / "d", name="n"
    )
    assert len(data) == 10
    problems = {problem.where: problem.reason for problem in data.problems}
    assert list(problems) == ["a/slow.png", "b/crash.png"]
    assert "took longer than 1 s" in problems["a/slow.png"]
    assert "crashed" in problems["b/crash.png"]


def test_too_many_stops_end_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strange: None) -> None:
    monkeypatch.setattr(limited, "MOST_STOPS", 1)
    monkeypatch.setattr(limited, "CHILD", "slow_reader")
    bad = [(f"b/crash{number}.png", b"CRASH") for number in range(3)]
    with pytest.raises(DataError, match=r"Reading 'a\.zip' crashed"):
        limited.import_data(images(tmp_path, *bad), tmp_path / "d", name="n")


def test_a_row_group_that_takes_too_much_is_named_and_no_row_comes_twice(
    tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, strange: None
) -> None:
    frame["c"] = [666.0 if 20 <= row < 40 else row for row in range(60)]
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet", row_group_size=10)
    monkeypatch.setattr(limited, "CHILD", "slow_reader")
    monkeypatch.setenv("HOME", str(tmp_path))
    data = limited.import_data(tmp_path / "t.parquet", tmp_path / "d", name="n", target="kind")
    assert [problem.where for problem in data.problems] == ["rows 21 to 30", "rows 31 to 40"]
    assert [data.source(row) for row in range(len(data))] == [f"row {row}" for row in (*range(1, 21), *range(41, 61))]


def test_reading_goes_on_within_a_row_group(
    tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tablefile, "CELLS", 12)  # four rows at once
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet", row_group_size=10)
    options = Options(target="kind")

    def rows(place: Place) -> Iterator[tuple[list[str], int, int]]:
        for given in source.read(tmp_path / "t.parquet", options, place):
            if isinstance(given, Portion):
                yield given.where, given.next, given.done

    whole = [*rows(Place())]
    assert [name for where, _, _ in whole for name in where] == [f"row {row + 1}" for row in range(60)]
    for stop in range(len(whole) - 1):
        _, start, skip = whole[stop]
        after = [name for where, _, _ in rows(Place(start=start, skip=skip, alone=True)) for name in where]
        assert after == [name for where, _, _ in whole[stop + 1 :] for name in where]


def test_cancel_leaves_no_child(tmp_path: Path) -> None:
    before = psutil.Process().children()
    with pytest.raises(Cancelled, match="reading images"):
        limited.import_data(images(tmp_path), tmp_path / "d", name="n", ctx=Context(cancelled=lambda: True))
    assert psutil.Process().children() == before


# What is refused by its headers, with the figure


def test_rows_that_a_few_bytes_declare_are_counted_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 2_000_000
    zeros = pa.table({"a": np.zeros(rows, np.float32), "y": np.zeros(rows, np.int8)})
    pq.write_table(zeros, tmp_path / "t.parquet", compression="zstd", row_group_size=rows)
    assert (tmp_path / "t.parquet").stat().st_size < 20_000
    monkeypatch.setenv(limits.VARIABLE, "100MB")
    for read in (limited.look, lambda path: limited.import_data(path, tmp_path / "d", name="n", target="y")):
        with pytest.raises(
            DataError, match=r"2,000,000 samples; importing them needs 600\.0 MB of memory, the limit is 100\.0 MB"
        ):
            read(tmp_path / "t.parquet")


def test_the_limit_is_a_share_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    assert limits.LEAST <= limits.memory() <= max(limits.LEAST, psutil.virtual_memory().total // limits.SHARE)


def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, "much")
    with pytest.raises(DataError, match=r"SURGERY_DATA_MEMORY is .much., which is no size\."):
        limits.memory()


def test_a_dictionary_is_not_repeated_for_every_row(tmp_path: Path) -> None:
    """Twenty gigabytes, if every row had a text of its own."""
    rows = 20_000
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 1_000_000]))
    made = pa.table({"text": text, "n": np.arange(rows) % 50, "y": np.arange(rows) % 2})
    pq.write_table(made, tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 200_000
    data = limited.import_data(tmp_path / "t.parquet", tmp_path / "d", name="n", target="y", drop=["text"])
    assert len(data) == rows
    assert [column.dtype for column in limited.look(tmp_path / "t.parquet").columns] == ["text", "integer", "integer"]


@pytest.mark.parametrize("codec", ["zstd", "brotli", "snappy"])
def test_pages_that_unpack_to_far_more_are_refused_with_the_figure(tmp_path: Path, codec: str) -> None:
    column = pa.array(["z" * 30_000_000, "b"], pa.large_string()).take(pa.array([0]))
    made = pa.table({"a": column, "n": [1], "y": [0]})
    pq.write_table(made, tmp_path / "t.parquet", compression=codec, use_dictionary=False)
    with pytest.raises(DataError, match=r"A value of the column 'a' .* needs 30\.\d MB; a value may have 1\.0 MB"):
        limited.look(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            ("{'descr': '<U50000', 'fortran_order': False, 'shape': (40,), }", 8_000_000),
            "texts have 50,000 characters, 8.0 MB in all",
        ),
        (("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 200000000), }", 0), "one row needs 200.0 MB"),
        (("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 5), }", 80), "shape .* is impossible"),
        (("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }", 80), "is empty"),
        (
            ("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 3000 + ", }", 80),
            "header cannot be understood|nested|parse",
        ),
        (("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (40,), }", 160), "not an array of numbers"),
    ],
)
def test_what_an_array_declares_is_judged_before_it_is_read(
    tmp_path: Path, arrays: tuple[str, int], message: str
) -> None:
    header, size = arrays
    rows = io.BytesIO()
    np.save(rows, np.eye(40))
    path = zipped(tmp_path / "a.npz", [("x.npy", rows.getvalue()), ("y.npy", npy(header, bytes(size)))])
    with pytest.raises(DataError, match=rf"'y' of 'a\.npz' cannot be read: .*({message})"):
        import_data(path, tmp_path / "d", name="n")


def test_an_image_that_would_take_too_much_is_named_with_the_figure(tmp_path: Path) -> None:
    side = 8_800
    bitmap = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    data = import_data(images(tmp_path, ("a/large.bmp", bitmap)), tmp_path / "d", name="n")
    assert [problem.where for problem in data.problems] == ["a/large.bmp"]
    assert "opening it needs 309.8 MB, an image may take 256.0 MB" in data.problems[0].reason


@pytest.mark.parametrize("mark", [b"P5", b"P6", b"P2", b"P3", b"P1"])
def test_a_comment_of_megabytes_is_no_head(tmp_path: Path, mark: bytes) -> None:
    content = mark + b"\n#" + b"c" * 5_000_000 + b"\n2 2\n255\n" + bytes(12)
    data = import_data(images(tmp_path, ("a/slow.ppm", content)), tmp_path / "d", name="n")
    assert ["head is longer than 65,536 bytes" in problem.reason for problem in data.problems] == [True]


def test_a_list_of_entries_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = images(tmp_path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<HH", content, content.rindex(b"PK\x05\x06") + 8, 60_000, 60_000)
    path.write_bytes(content)
    monkeypatch.setattr("surgery.data.files.MAX_ENTRIES", 50_000)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(DataError, match="60,000 entries; at most 50,000"):
        sniff(path)


def test_a_row_without_an_end_is_not_gathered(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b,y\n1,2,0\n" + b'"\n",' * 5_000_000)
    with pytest.raises(DataError, match=r"Line [\d,]+ of 't\.csv' belongs to a row of more than"):
        import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="y")


# What else a disk may hold


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_what_is_no_file_is_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t.csv"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    for read in (limited.look, sniff):
        with pytest.raises(DataError, match=r"'t\.csv' (is no regular file|cannot be)"):
            read(path)


def test_pipes_and_devices_in_a_folder_are_named(tmp_path: Path) -> None:
    for name, content in good(random.Random(0)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    os.mkfifo(tmp_path / "in" / "a" / "pipe.png")
    (tmp_path / "in" / "b" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "elsewhere.png").write_bytes(png(random.Random(5)))
    (tmp_path / "in" / "b" / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    data = limited.import_data(tmp_path / "in", tmp_path / "d", name="n")
    assert len(data) == 11
    assert {(problem.where, problem.reason) for problem in data.problems} == {
        ("a/pipe.png", "It is no regular file."),
        ("b/zero.png", "It is no regular file."),
    }


def test_a_folder_named_as_a_table_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    (tmp_path / "t.csv" / "part-0").write_bytes(b"a,b")
    with pytest.raises(DataError, match=r"'t\.csv' is a folder, not a file"):
        sniff(tmp_path / "t.csv")


def test_a_file_that_grows_is_refused(tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablefile, "CELLS", 30)
    frame.to_csv(tmp_path / "t.csv", index=False)
    reader = source.read(tmp_path / "t.csv", Options(target="kind"))
    next(reader)
    with (tmp_path / "t.csv").open("a") as file:
        file.write("1,2,k0\n")
    with pytest.raises(DataError, match=r"'t\.csv' changed while it was read"):
        list(reader)


def test_a_limit_on_the_size_of_files_is_named(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Of the system, on the worker that writes: not a bare code."""
    frame.to_csv(tmp_path / "t.csv", index=False)
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom surgery.data.load import import_data\n"
        "from surgery.errors import DiskFullError\nresource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "try: import_data(Path(sys.argv[1]), Path(sys.argv[2]), name='n', target='kind')\n"
        "except DiskFullError as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "t.csv"), str(tmp_path / "d")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "allows no larger files" in done.stdout, done.stderr


def test_whatever_a_reader_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(source, "read_images", fail)
    monkeypatch.setattr(source, "peek_images", fail)
    for read in (source.peek, lambda path: import_data(path, tmp_path / "d", name="n")):
        with pytest.raises(DataError, match=r"'a\.zip' cannot be read: ZeroDivisionError"):
            read(images(tmp_path))
