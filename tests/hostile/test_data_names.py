"""Names and numbers that came with a file: shown, compared and read without a raw error."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surgery.data.dataset import Dataset
from surgery.data.labels import natural
from surgery.data.load import columns, import_data, peek, sniff
from surgery.data.names import alike, difference, visible
from surgery.errors import DataError
from tests.hostile.data_generators import good, png, zipped

pytestmark = pytest.mark.hostile
X = np.random.default_rng(0).random((40, 3))


def of_classes(folder: Path, *labels: str) -> Path:
    """A zip with four images of each class; of the first six."""
    source = random.Random(0)
    counts = [6, *[4] * (len(labels) - 1)]
    files = [
        (f"{label}/{number}.png", png(source))
        for label, count in zip(labels, counts, strict=True)
        for number in range(count)
    ]
    return zipped(folder / "a.zip", files)


def arrays(folder: Path, **given: Any) -> Dataset:
    np.savez(folder / "a.npz", **given)
    return import_data(folder / "a.npz", folder / "d", name="n")


def test_names_are_compared_as_a_person_would() -> None:
    names = ["Cat", "cat", "cat ", "café", "cafe\u0301", "dog", "a  b", "a b"]
    assert alike(names) == [[0, 1, 2], [3, 4], [6, 7]]
    assert difference("Cat", "cat") == "case"
    assert difference("cat", "cat ") == "blanks"
    assert difference("Cat", "cat ") == "case and blanks"
    assert difference("café", "cafe\u0301") == "Unicode form"


def test_classes_that_are_alike_are_reported_and_kept_apart(tmp_path: Path) -> None:
    data = import_data(of_classes(tmp_path, "Cat", "cat", "cafe\u0301", "café"), tmp_path / "d", name="n")
    assert len(data.classes) == 4
    assert [(problem.where, problem.reason) for problem in data.problems] == [
        ("class 'cat'", "It differs from 'Cat' in case only, and was kept apart."),
        ("class 'café'", "It differs from 'cafe\u0301' in Unicode form only, and was kept apart."),
    ]
    assert all("merged" in problem.fix for problem in data.problems)


def test_classes_that_are_alike_can_be_merged(tmp_path: Path) -> None:
    path = of_classes(tmp_path, "cat", "Cat", "cat ", "dog")
    data = import_data(path, tmp_path / "d", name="n", same_names="merge")
    assert data.classes == ("cat", "dog")
    assert [problem.where for problem in data.problems] == ["class 'Cat'", "class 'cat '"]
    merged = [data.classes[label] for label in data.labels(range(len(data)))]
    assert merged == [data.source(row).split("/")[0].strip().lower() for row in range(len(data))]
    rows = "".join(f"{row},{row % 5},{'Cat' if row % 3 else ' cat'}\n" for row in range(40)) + "7,7,dog\n8,8,dog\n"
    (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}")
    data = import_data(tmp_path / "t.csv", tmp_path / "e", name="n", target="y", same_names="merge")
    assert data.classes == ("Cat", "dog")


def test_an_entry_that_comes_twice_is_reported(tmp_path: Path) -> None:
    last = png(random.Random(77))
    path = zipped(tmp_path / "a.zip", [*good(random.Random(0)), ("a/1.png", last)])
    data = import_data(path, tmp_path / "d", name="n")
    assert [(problem.where, problem.reason) for problem in data.problems] == [
        ("a/1.png", "The zip holds 2 entries of this name; the last one was read.")
    ]
    row = next(row for row in range(len(data)) if data.source(row) == "a/1.png")
    picture = np.frombuffer(random.Random(77).randbytes(6 * 6 * 3), np.uint8)
    assert data.raw([row])[0, 0, 0, 0] == pytest.approx(picture[:3] @ [0.299, 0.587, 0.114], abs=1)


def test_a_colon_is_no_drive(tmp_path: Path) -> None:
    data = import_data(of_classes(tmp_path, "a:b", "cat: big"), tmp_path / "d", name="n")
    assert data.classes == ("a:b", "cat: big")


@pytest.mark.parametrize("name", ["C:/a/1.png", "c:\\a\\1.png"])
def test_a_drive_leads_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="leads outside"):
        sniff(zipped(tmp_path / "a.zip", [*good(random.Random(0)), (name, b"")]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("nul\x00", "nul\\u0000"),
        ("two\nlines", "two\\u000alines"),
        ("زن\u200cدگی", "زن\u200cدگی"),
        ("👩\u200d🔬 é ß", "👩\u200d🔬 é ß"),
    ],
)
def test_what_cannot_be_seen_is_written_as_its_code(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_labels_with_characters_that_cannot_be_stored(tmp_path: Path) -> None:
    labels = np.array(["a\u202eb", "\ud800x", "ok", "new\nline"] * 10)
    data = arrays(tmp_path, x=X, y=labels)
    assert data.classes == ("\\ud800x", "a\\u202eb", "new\\u000aline", "ok")
    assert any("written as their codes" in note for note in data.notes)
    assert {label for _, label in peek(tmp_path / "a.npz", 8)} == set(labels.tolist())


def test_bytes_that_are_no_ascii(tmp_path: Path) -> None:
    y = np.array([b"caf\xc3\xa9", b"na\xefve"] * 20)
    data = arrays(tmp_path, x=X, y=y, features=np.array([b"l\xe4nge", b"b", b"c"]))
    assert data.classes == ("café", "naïve")
    assert data.features == ("länge", "b", "c")
    assert data.notes[0].startswith("Labels that are not UTF-8 were read as Latin-1")


def test_texts_are_no_samples_and_no_characters_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'x' of 'a\.npz' cannot be read: it holds texts, not an array of numbers"):
        arrays(tmp_path, x=np.array([["a", "b"]] * 40), y=np.arange(40) % 2)
    with pytest.raises(DataError, match="what is no character"):
        arrays(tmp_path, x=X, y=np.full(40, 0x7FFFFFFF, np.uint32).view("U1"))


@pytest.mark.parametrize("kind", ["i1", ">i8", "u8", "f2", ">f4", "g"])
def test_every_kind_of_number_is_read(tmp_path: Path, kind: str) -> None:
    x = (X * 9).astype(int).astype(kind)
    x[:, 2] = np.arange(40) // 20
    x[:, 0] = np.arange(40) % 2
    data = arrays(tmp_path, x=x, y=(np.arange(40) % 2).astype(kind))
    assert np.array_equal(data.raw(range(len(data))), x.astype(np.float32))


@pytest.mark.parametrize("kind", ["c16", "M8[s]", "m8[s]", "V8", [("a", "i4"), ("b", "i4")]])
def test_what_is_no_number_is_named(tmp_path: Path, kind: Any) -> None:
    odd = np.zeros((40, 3), kind)
    for given in ({"x": odd, "y": np.arange(40) % 2}, {"x": X, "y": odd[:, 0]}):
        with pytest.raises(DataError, match=r"'[xy]' of 'a\.npz' cannot be read: it is .*, not an array of numbers"):
            arrays(tmp_path, **given)


def test_numbers_of_any_length_sort() -> None:
    names = ["9" * 6000, "b2", "10", "2", "b10", "02"]
    assert sorted(names, key=natural) == ["02", "2", "10", "9" * 6000, "b2", "b10"]


def test_a_label_that_is_a_novel(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{row},1,{'word ' * 300}{row % 2}\n" for row in range(20)))
    with pytest.raises(
        DataError, match=r"The label 'word .*' … has 1,501 characters; the name of a class may have 1,000"
    ):
        import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,b,y\n1,2,0\n".decode().encode("utf-16-le"), "UTF-16 text without its mark"),
        (b"a," + b"x" * 2_000 + b",y\n1,2,0\n", "column 2 of 't.csv' has 2,000 characters"),
        (b'a,b,"' + b"y" * 200_000 + b'"\n1,2,0\n', "first line of 't.csv' cannot be read: field larger"),
        (b"a,b,a\x07\n1,2,0\n", None),
    ],
)
def test_first_lines(tmp_path: Path, text: bytes, message: str | None) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    if message is None:
        assert [column.name for column in columns(tmp_path / "t.csv")] == ["a", "b", "a\\u0007"]
    else:
        with pytest.raises(DataError, match=message):
            columns(tmp_path / "t.csv")


def test_columns_of_parquet_that_hold_no_numbers(tmp_path: Path) -> None:
    rows = 40
    made = pa.table(
        {
            "list": pa.array([[1.0] * 9] * rows),
            "struct": pa.array([{"x": row} for row in range(rows)]),
            "year": pa.array([2**60] * rows, pa.int64()).cast(pa.timestamp("us")),
            "decimal": pa.array(range(rows)).cast(pa.decimal128(30, 4)),
            "half": pa.array(np.arange(rows, dtype=np.float16)),
            "blob": pa.array([b"\xff\x00"] * rows),
            "odd\u202e": np.arange(rows),
            "y": np.arange(rows) % 2,
        }
    )
    pq.write_table(made, tmp_path / "t.parquet")
    kinds = {column.name: column.dtype for column in columns(tmp_path / "t.parquet")}
    assert [name for name, kind in kinds.items() if kind == "text"] == ["list", "struct", "year", "blob"]
    assert kinds["decimal"] == kinds["half"] == kinds["odd\\u202e"] == "integer"
    with pytest.raises(DataError, match="Text or dates, which a model cannot take as they are, in 4 columns: 'list'"):
        import_data(tmp_path / "t.parquet", tmp_path / "d", name="n", target="y")
    drop = ["list", "struct", "year", "blob"]
    data = import_data(tmp_path / "t.parquet", tmp_path / "d", name="n", target="y", drop=drop)
    assert data.features == ("decimal", "half", "odd\\u202e")


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name, content in good(random.Random(0)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "a" / "bad\udcff.png").write_bytes(png(random.Random(3)))
    data = import_data(folder, tmp_path / "d", name="n")
    assert "a/bad\\udcff.png" in {data.source(row) for row in range(len(data))}
