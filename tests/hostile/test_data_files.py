"""Bad data files: each gets a clear error or a named problem, nothing runs, nothing is written outside."""

from __future__ import annotations

import errno
import io
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays, import_data, peek, sniff
from surgery.errors import DataError, DiskFullError

pytestmark = pytest.mark.hostile


def png(seed: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)).save(target, "PNG")
    return target.getvalue()


def good(count: int = 5) -> dict[str, bytes]:
    return {f"{label}/{n}.png": png(100 * place + n) for place, label in enumerate("ab") for n in range(count)}


def zipped(path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path / "a.zip", "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path / "a.zip"


def written(path: Path, content: bytes | str, name: str = "t.csv") -> Path:
    (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path / name


def load(path: Path, **options: Any) -> Dataset:
    return import_data(path, path.parent / "out", name="n", **options)


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return exec, (f"open({str(self.trace)!r}, 'w')",)


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/etc/out.png", "C:/out.png", "a\\..\\..\\out.png"])
def test_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path, good() | {name: png(1)})
    for read in (load, sniff, peek):
        with pytest.raises(DataError, match=r"leads outside the archive.*from inside its folder"):
            read(path)


def test_links_in_a_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path, good())
    entry = zipfile.ZipInfo("a/link.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match=r"'a/link.png' of 'a.zip' is a link"):
        load(path)


@pytest.mark.parametrize("name", ["inner.zip", "a/inner.TAR", "a/x.tar.gz"])
def test_archives_in_a_zip(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="archive inside the archive"):
        load(zipped(tmp_path, good() | {name: b"PK"}))


def test_a_zip_bomb(tmp_path: Path) -> None:
    path = zipped(tmp_path, good() | {"a/zeros.bmp": bytes(120_000_000)})
    with pytest.raises(DataError, match=r"unpack to 0\.1 GB, .* like a zip bomb"):
        load(path)


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.files.MAX_ENTRIES", 9)
    with pytest.raises(DataError, match="10 entries; at most 9"):
        load(zipped(tmp_path, good()))


def test_a_file_that_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.files.MAX_FILE", 1000)
    data = load(zipped(tmp_path, good() | {"a/big.png": bytes(2000)}))
    assert [problem.where for problem in data.problems] == ["a/big.png"]


def test_an_encrypted_zip(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path, good()).read_bytes())
    place = content.index(b"PK\x01\x02") + 8
    content[place] |= 1
    with pytest.raises(DataError, match="is encrypted"):
        load(written(tmp_path, bytes(content), "b.zip"))


def test_an_unusual_packing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unusual method"):
        load(zipped(tmp_path, good(), zipfile.ZIP_LZMA))


@pytest.mark.parametrize("kept", [10, 400, -30])
def test_a_truncated_zip(tmp_path: Path, kept: int) -> None:
    content = zipped(tmp_path, good()).read_bytes()
    with pytest.raises(DataError, match="not a complete zip"):
        load(written(tmp_path, content[:kept], "b.zip"))


def test_a_damaged_entry_is_named_and_the_rest_is_used(tmp_path: Path) -> None:
    path = zipped(tmp_path, good(), zipfile.ZIP_STORED)
    content = path.read_bytes().replace(png(3), png(3)[:40] + b"????" + png(3)[44:])
    data = load(written(tmp_path, content, "b.zip"))
    assert len(data) == 9
    assert [problem.where for problem in data.problems] == ["a/3.png"] and "CRC" in data.problems[0].reason


def test_an_image_of_a_billion_pixels(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 25_000, 8, 0, 0, 0, 0))
    huge = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    large = huge.replace(struct.pack(">II", 40_000, 25_000), struct.pack(">II", 10_000, 10_000))
    data = load(zipped(tmp_path, good() | {"a/huge.png": huge, "b/large.png": large}))
    assert len(data) == 10
    assert [problem.where for problem in data.problems] == ["a/huge.png", "b/large.png"]
    assert "1000000000 pixels" in data.problems[0].reason


@pytest.mark.parametrize("content", [b"", b"not an image", png(0)[:60], b"GIF89a", b"%!PS-Adobe evil"])
def test_no_images_among_images(tmp_path: Path, content: bytes) -> None:
    data = load(zipped(tmp_path, good() | {"a/bad.png": content}))
    assert len(data) == 10
    assert [(p.where, p.fix) for p in data.problems] == [("a/bad.png", "Save it again as PNG or JPEG.")]


def test_files_outside_the_classes_are_named(tmp_path: Path) -> None:
    data = load(zipped(tmp_path, good() | {"labels.csv": b"a,b"}))
    assert [(p.where, p.reason) for p in data.problems] == [("labels.csv", "It lies outside the class folders.")]


def test_all_images_bad(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nothing in 'n' can be used") as caught:
        load(zipped(tmp_path, dict.fromkeys(good(), b"bad")))
    assert len(caught.value.problems) == 10


def test_thousands_of_bad_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.findings.LIMIT", 4)
    data = load(zipped(tmp_path, good() | {f"a/bad{n}.png": b"bad" for n in range(9)}))
    assert len(data.problems) == 5 and "5 more problems" in data.problems[-1].reason


def test_one_class_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only one class, 'cat'; a classification needs at least two"):
        load(zipped(tmp_path, {f"cat/{n}.png": png(n) for n in range(9)}))
    with pytest.raises(DataError, match="only one class, 'a'"):
        load(zipped(tmp_path, {f"a/{n}.png": png(n) for n in range(9)} | {"b/1.png": b"bad"}))
    with pytest.raises(DataError, match="only one class, '1'"):
        load(written(tmp_path, "x,y\n" + "".join(f"{n}.5,1\n" for n in range(9))), target="y")


def test_a_class_with_one_sample_is_used_and_named(tmp_path: Path) -> None:
    data = load(zipped(tmp_path, good() | {"rare/1.png": png(99)}))
    assert data.classes == ("a", "b", "rare")
    assert data.labels(data.ids("train")).tolist().count(2) == 1
    assert data.problems[0].where == "class 'rare'" and "cannot be measured" in data.problems[0].reason


def test_only_single_samples_look_like_an_identifier(tmp_path: Path) -> None:
    text = "x,name\n" + "".join(f"{n}.5,person {n}\n" for n in range(30))
    with pytest.raises(DataError, match="looks like an identifier"):
        load(written(tmp_path, text), target="name")


def test_more_classes_than_anybody_can_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.labels.MAX_CLASSES", 5)
    with pytest.raises(DataError, match=r"more than 5 different labels, the last one 'p5'"):
        load(written(tmp_path, "x,name\n" + "".join(f"{n},p{n % 9}\n" for n in range(30))), target="name")


def test_all_samples_equal(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few different samples to set some aside: 1"):
        load(zipped(tmp_path, dict.fromkeys(good(), png(0))))


def test_splits_without_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test, train hold images directly"):
        load(zipped(tmp_path, {"train/1.png": png(0), "test/1.png": png(1)}))


@pytest.mark.parametrize("name", ["x.npz", "x.csv"])
def test_object_arrays_are_never_opened(tmp_path: Path, name: str) -> None:
    trace = tmp_path / "ran"
    bomb = np.array([Bomb(trace), None], dtype=object)
    np.savez(tmp_path / "x.npz", x=bomb, y=np.array([0, 1]))
    path = (tmp_path / "x.npz").rename(tmp_path / name)
    for read in (load, sniff, peek):
        with pytest.raises(DataError, match=r"'x' of .* cannot be read: it holds Python objects"):
            read(path)
    assert not trace.exists()


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = written(tmp_path, pickle.dumps(Bomb(trace)), "data.npz")
    with pytest.raises(DataError, match="Python pickle, which is never opened"):
        load(path)
    assert not trace.exists()


def test_an_npz_that_promises_more_than_it_has(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 10**6)})
    with pytest.raises(DataError, match=r"'x' of 'a.zip' cannot be read: it ends too early"):
        load(zipped(tmp_path, {"x.npy": head.getvalue() + bytes(80)}))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.zeros(3)}, "holds the arrays z, but no samples 'x'"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, r"'y' has the shape \[3\] beside 4 samples"),
        ({"x": np.zeros((4, 2)), "y": np.eye(4)}, r"one-hot rows use y.argmax\(1\)"),
        ({"x": np.zeros(4), "y": np.zeros(4)}, r"'x' has the shape \[4\]"),
        ({"x": np.zeros((4, 2, 2, 2)), "y": np.zeros(4)}, r"'x' has the shape \[4, 2, 2, 2\]"),
        ({"x": np.zeros((4, 10_001)), "y": np.zeros(4)}, "up to 10,000 features"),
        ({"x": np.zeros((4, 0, 3)), "y": np.zeros(4)}, "empty images"),
        ({"x": np.zeros((4, 3, 3)) + 7, "y": np.arange(4) % 2}, "All pixels have the same value"),
        ({"x": np.zeros((4, 2), complex), "y": np.zeros(4)}, "not an array of numbers"),
        ({"x": np.asfortranarray(np.eye(3)), "y": np.zeros(3)}, "stored column by column"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "Nothing in 'n' can be used"),
        ({"x": np.eye(4), "y": np.zeros(4), "x_test": np.eye(3), "y_test": np.zeros(3)}, "samples of shape"),
        ({"x": np.eye(4), "y": np.zeros(4), "x_test": np.eye(4)}, "'x_test' has no labels beside it"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz")


def test_a_damaged_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).random((500, 9)), y=np.arange(500) % 2)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[20_000:20_100] = bytes(100)
    with pytest.raises(DataError, match=r"'x' of 'b.npz' is damaged"):
        load(written(tmp_path, bytes(content), "b.npz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", r"columns 'x', 'y', and no target was chosen"),
        ("x,x,y\n1,2,3\n", "two columns named 'x'"),
        ("only\n1\n2\n", "single column"),
        ("x,y\n", "no rows that can be used"),
        ("\n\n", "single column"),
        ('x,y\n1,"never closed\n' + "2,3\n" * 50_000, "Line .* cannot be read: field larger than"),
    ],
)
def test_texts_that_are_no_table(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(written(tmp_path, text))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_text_and_empty_columns_are_refused_once(tmp_path: Path, form: str) -> None:
    table = pd.DataFrame({"a": range(20), "city": ["Rome", "Oslo"] * 10, "gap": [None] * 20, "y": [0, 1] * 10})
    path = tmp_path / f"t.{form}"
    getattr(table, f"to_{form}")(path, index=False)
    with pytest.raises(DataError, match=r"in 1 column: 'city' \('Rome', (line 2|row 1)\)\. .*--column 'city=one-hot'"):
        load(path, target="y")
    with pytest.raises(DataError, match="no value at all in column 'gap'"):
        load(path, target="y", drop=["city"])
    with pytest.raises(DataError, match="no column 'town' to drop"):
        load(path, target="y", drop=["town"])
    with pytest.raises(DataError, match="no column left"):
        load(path, target="y", drop=["a", "city", "gap"])
    with pytest.raises(DataError, match="target column 'gap' is empty"):
        load(path, target="gap")
    with pytest.raises(DataError, match="target 'city' holds text"):
        load(path, target="city", drop=["gap"], task="regression")
    assert len(load(path, target="y", drop=["city", "gap"])) == 20


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_million_columns(tmp_path: Path, separator: str) -> None:
    text = separator.join(f"c{n}" for n in range(500_000)) + "\n"
    with pytest.raises(DataError, match="500,000 columns; at most 10,000"):
        load(written(tmp_path, text), target="c1")
    longer = separator.join(f"c{n}" for n in range(1_000_000))
    with pytest.raises(DataError, match=r"first line of 'u.csv' has more than 4,000,000 characters"):
        load(written(tmp_path, longer, "u.csv"), target="c1")


@pytest.mark.parametrize("kept", [10, 300, -5])
def test_a_truncated_parquet(tmp_path: Path, kept: int) -> None:
    pd.DataFrame({"x": range(99), "y": [0, 1, 1] * 33}).to_parquet(tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    with pytest.raises(DataError, match="not a complete Parquet file"):
        load(written(tmp_path, content[:kept], "u.parquet"), target="y")


def test_a_damaged_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"x": np.random.default_rng(0).random(5000), "y": [0, 1] * 2500}).to_parquet(tmp_path / "t.parquet")
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[4:200] = b"\xff" * 196
    with pytest.raises(DataError, match="is damaged near row 1"):
        load(written(tmp_path, bytes(content), "u.parquet"), target="y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x1f\x8b\x08rest", "cannot be unpacked"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
        (b"\x93NUMPY\x01\x00", r"single array \(\.npy\)"),
        (b"\xff\xd8\xff\xe0", "single image"),
        (b"%PDF-1.7", "a PDF"),
        (b"\x00\x01\x02binary", "no known kind"),
        (bytes(257) + b"ustar", "tar archive"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    for name in ("x.zip", "x.csv", "x.npz"):
        with pytest.raises(DataError, match=message):
            load(written(tmp_path, content, name))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no images, but nothing"),
        ({"table.csv": b"x,y"}, r"holds no images, but 'table.csv' and 0 more files"),
        ({"[Content_Types].xml": b""}, "Office file.*Save the sheet as CSV"),
        ({"model/data.pkl": b"", "model/version": b""}, "PyTorch file.*opened as a model"),
    ],
)
def test_other_kinds_of_zips_are_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(zipped(tmp_path, files))


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'gone.zip' cannot be opened: No such file"):
        load(tmp_path / "gone.zip")
    with pytest.raises(DataError, match="There are no files"):
        (tmp_path / "empty").mkdir()
        load(tmp_path / "empty")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_while_writing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.npy").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match=r"The disk is full\. Free some space on the disk of .*out"):
        load(zipped(tmp_path, good()))


def test_a_full_disk_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("surgery.data.writer.pq.write_table", full)
    with pytest.raises(DiskFullError, match="is full"):
        from_arrays(tmp_path / "d", np.eye(9), np.arange(9) % 2, classes="ab", name="n", task="classification")


def test_a_dataset_that_cannot_fit_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.writer.shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(DiskFullError, match=r"need 0\.00 GB, the disk has 0\.00 GB free"):
        load(zipped(tmp_path, good()))
