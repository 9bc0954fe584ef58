"""Files as people have them: no names of columns, packed, JSON, comments, numbers of other countries, texts, dates."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from surgery.data import limited
from surgery.data.dataset import Dataset
from surgery.data.load import columns, import_data, sniff
from surgery.data.reading import Encoding, Reading
from surgery.errors import DataError

SKLEARN = Path(sklearn.datasets.__file__).parent / "data"


def written(folder: Path, *lines: str, name: str = "t.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def imported(path: Path, target: str | None = None, **choices: Any) -> Dataset:
    return import_data(path, path.parent / "d", name="n", target=target, **choices)


@pytest.mark.parametrize(
    ("file", "target", "task", "shape", "classes"),
    [
        ("iris.csv", "column 5", "classification", (4,), ("setosa", "versicolor", "virginica")),
        ("wine_data.csv", "column 14", "classification", (13,), ("class_0", "class_1", "class_2")),
        ("breast_cancer.csv", "column 31", "classification", (30,), ("malignant", "benign")),
        ("digits.csv.gz", "column 65", "classification", (64,), tuple("0123456789")),
        ("diabetes_data_raw.csv.gz", "column 10", "regression", (9,), ("column 10",)),
        ("linnerud_exercise.csv", "Jumps", "regression", (2,), ("Jumps",)),
    ],
)
def test_scikit_learns_own_files_are_read_as_they_are(
    tmp_path: Path, file: str, target: str, task: str, shape: tuple[int, ...], classes: tuple[str, ...]
) -> None:
    wanted = "regression" if task == "regression" else None
    data = import_data(SKLEARN / file, tmp_path / "d", name="n", target=target, task=wanted)
    assert (data.task, data.shape, data.classes, data.problems) == (task, shape, classes, ())


def test_the_first_line_is_data_where_it_looks_so_or_where_the_user_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, *(f"{n}.5,{n * 3 % 7},{'ab'[n % 2]}" for n in range(20)))
    assert imported(path, "column 3").features == ("column 1", "column 2") and len(imported(path, "column 3")) == 20
    path = written(tmp_path, "1990,2000,y", *(f"{n % 5},{n * 3 % 7},{'ab'[n % 2]}" for n in range(20)))
    assert imported(path, "y").features == ("1990", "2000")
    assert len(imported(path, "column 3", header="ignore")) == 20
    with pytest.raises(DataError, match=r"no target column 'y'"):
        imported(path, "y", header="data")


def test_comments_are_passed_over_and_may_name_the_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "# made in May", "", "a,y", *(f"{n},{'pq'[n % 2]}" for n in range(20)))
    data = imported(path, "y")
    assert data.features == ("a",) and data.source(0) == "line 4"
    assert data.notes == ("Comment lines skipped before the table: 2.",)
    rows = np.column_stack([np.arange(20) * 3, np.arange(20) % 2])
    np.savetxt(tmp_path / "s.csv", rows, delimiter=",", header="a,y")
    assert imported(tmp_path / "s.csv", "y").features == ("a",)


@pytest.mark.parametrize("pack", [gzip, bz2, lzma])
def test_packed_tables_are_read_without_unpacking_them(tmp_path: Path, pack: Any) -> None:
    plain = written(tmp_path, "a,y", *(f"{n},{'pq'[n % 2]}" for n in range(20)))
    packed = tmp_path / "t.csv.gz"
    with pack.open(packed, "wb") as file:
        file.write(plain.read_bytes())
    found = sniff(packed)
    assert (found.kind, found.entries, found.bytes) == ("csv", 20, packed.stat().st_size)
    assert imported(packed, "y").digest == imported(plain, "y").digest
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"'t\.csv\.gz' cannot be unpacked"):
        sniff(packed)


@pytest.mark.parametrize("lines", [True, False])
def test_json_records_are_a_table(tmp_path: Path, lines: bool) -> None:
    rows = [{"a": n, "b": n % 3 == 0, "y": "pq"[n % 2]} | ({"late": 1} if n else {}) for n in range(20)]
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
    (tmp_path / "t.json").write_text(text)
    assert [(info.name, info.dtype) for info in columns(tmp_path / "t.json")] == [
        ("a", "integer"),
        ("b", "boolean"),
        ("y", "text"),
        ("late", "integer"),
    ]
    data = imported(tmp_path / "t.json", "y")
    assert len(data) == 19 and data.problems[0].where == "record 1" and data.features == ("a", "b", "late")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1, "b": 2}, {"a": 1', r"'t\.json' is no JSON near '\{\"a\": 1'"),
        ('[{"a": 1, "b": 2}, 3]', r"Record 2 of 't\.json' is no JSON object"),
        ('{"a": {"0": 1, "1": 2}, "b": {"0": 1, "1": 2}}', r"holds columns \(a, b \.\.\.\)|holds columns \(a, b …\)"),
    ],
)
def test_json_that_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=message):
        imported(tmp_path / "t.json", "b")


def test_numbers_of_other_countries_need_a_word_and_get_it(tmp_path: Path) -> None:
    path = written(tmp_path, "a;y", *(f"1.{n:03},5;{'pq'[n % 2]}" for n in range(20)))
    message = r"'a' holds numbers in another spelling, for instance '1\.000,5', line 2\."
    with pytest.raises(DataError, match=message) as caught:
        imported(path, "y")
    assert "--numbers '1.234,5'" in caught.value.fix
    assert imported(path, "y", numbers="1.234,5").raw([0, 1])[:, 0].tolist() == [1000.5, 1001.5]


def test_a_few_grouped_numbers_are_not_left_out_in_silence(tmp_path: Path) -> None:
    path = written(tmp_path, "a,y", *(f"{n},{'pq'[n % 2]}" for n in range(20)), '"1,234",p')
    with pytest.raises(DataError, match=r"for instance '1,234', line 22"):
        imported(path, "y")
    assert imported(path, "y", numbers="1,234.5").raw([20])[0, 0] == 1234


def test_percentages_become_fractions_and_a_mixture_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a,y", *(f"{n}%,{'pq'[n % 2]}" for n in range(20)))
    data = imported(path, "y")
    assert data.raw([12])[0, 0] == np.float32(0.12)
    assert data.notes == ("'a' holds percentages: '0%' was read as a fraction of 1.",)
    path = written(tmp_path, "a,y", *(f"{n}{'%' * (n < 5)},{'pq'[n % 2]}" for n in range(20)))
    with pytest.raises(DataError, match=r"'a' holds percentages such as '0%' among plain numbers"):
        imported(path, "y")


def words(folder: Path, name: str = "t.csv") -> Path:
    colors = ("red", "green", "blue")
    rows = (f"{colors[n % 3]},2026-01-{n + 1:02},{n},{'pq'[n % 2]}" for n in range(20))
    return written(folder, "color,when,n,y", *rows, name=name)


def test_texts_and_dates_are_refused_with_an_example_and_its_place(tmp_path: Path) -> None:
    message = r"in 2 columns: 'color' \('red', line 2\); 'when' \('2026-01-01', line 2\)\."
    with pytest.raises(DataError, match=message) as caught:
        imported(words(tmp_path), "y")
    assert "one-hot" in caught.value.fix


def test_texts_and_dates_become_what_the_user_chooses(tmp_path: Path) -> None:
    data = imported(words(tmp_path), "y", columns={"color": "one-hot", "when": "days"})
    assert data.features == ("color = blue", "color = green", "color = red", "when (days)", "n")
    assert data.raw([4])[0].tolist() == [0, 1, 0, 4, 4]
    assert data.reading == Reading(
        "y",
        "",
        (Encoding("color", "one-hot", ("blue", "green", "red")), Encoding("when", "days", start="2026-01-01")),
    )
    assert Dataset.open(data.folder).reading == data.reading
    rank = imported(words(tmp_path), "y", columns={"color": "ordinal", "when": "drop"})
    assert rank.features == ("color", "n") and rank.raw([0])[0].tolist() == [2, 0]


def test_new_data_is_read_as_the_earlier_was(tmp_path: Path) -> None:
    first = imported(words(tmp_path), "y", columns={"color": "one-hot", "when": "days"})
    rows = (f"{'pq'[n % 2]},{n},{('red', 'blue')[n % 2]},2026-02-01,x" for n in range(20))
    path = written(tmp_path, "y,n,color,when,more", *rows, "p,1,teal,2026-02-01,x", name="new.csv")
    assert first.reading is not None
    like = Reading(first.reading.target, "", first.reading.columns, order=first.features)
    data = import_data(path, tmp_path / "new", name="new", like=like)
    assert data.features == first.features and data.raw([1])[0].tolist() == [1, 0, 0, 31, 1]
    assert "Left out, because the earlier dataset does not have them: 'more'." in data.notes
    assert data.problems[0].reason == "'color' holds 'teal', which is none of its known values."


def test_the_limited_reader_passes_on_what_was_chosen(tmp_path: Path) -> None:
    path = words(tmp_path)
    options: Any = {"columns": {"color": "one-hot", "when": "days"}, "target": "y"}
    data = limited.import_data(path, tmp_path / "e", name="n", **options)
    assert data.digest == imported(path, **options).digest and data.reading == imported(path, **options).reading


def test_zeros_before_class_names_stay(tmp_path: Path) -> None:
    path = written(tmp_path, "a,y", *(f"{n},{('001', '002')[n % 2]}" for n in range(20)))
    assert imported(path, "y").classes == ("001", "002")
    assert imported(path, "y", task="regression").classes == ("y",)


def test_time_stamps_that_32_bits_cannot_tell_apart_are_named_and_can_be_counted_from_the_first(tmp_path: Path) -> None:
    path = written(tmp_path, "t,a,y", *(f"{1_700_000_000 + 10 * n},{n},{'pq'[n % 2]}" for n in range(20)))
    data = imported(path, "y")
    assert data.problems[0].where == "column 't'" and "1700000000 and 1700000010" in data.problems[0].reason
    assert imported(path, "y", columns={"t": "offset"}).raw([3])[0, 0] == 30


def test_an_arff_is_a_table(tmp_path: Path) -> None:
    names = ("@relation x", "@attribute 'a b' numeric", "@attribute y {p,q}", "@data")
    path = written(tmp_path, "% note", *names, *(f"{n},{'pq'[n % 2]}" for n in range(20)), name="t.arff")
    data = imported(path, "y")
    assert data.features == ("a b",) and len(data) == 20 and data.source(0) == "line 6"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"MATLAB 5.0 MAT-file", r"is a MATLAB file \(\.mat\)"),
        (b"\0\0\x08\x03\0\0\0\1", r"IDX format of MNIST \(images alone\)"),
        (b"SQLite format 3\0", r"is an SQLite database"),
        (b"1 3:0.5 7:1.5\n0 1:2\n", r"is a sparse table"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\1", mtime=0), r"IDX format of MNIST \(labels alone\)"),
    ],
)
def test_files_of_other_programs_are_refused_with_advice(tmp_path: Path, head: bytes, message: str) -> None:
    (tmp_path / "t.bin").write_bytes(head)
    with pytest.raises(DataError, match=message) as caught:
        sniff(tmp_path / "t.bin")
    assert caught.value.fix
