"""Arrays: images in every layout and range, tables, labels of every type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surgery.data.dataset import Dataset
from surgery.data.load import columns, from_arrays, import_data, peek, sniff
from surgery.errors import DataError

RANDOM = np.random.default_rng(0)
Y = np.arange(40) % 4


def saved(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path / "a.npz", **arrays)
    return path / "a.npz"


def imported(path: Path, **arrays: Any) -> Dataset:
    return import_data(saved(path, **arrays), path / "d", name="n")


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (1, 5, 6), (3, 5, 6)])
def test_every_image_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = RANDOM.integers(0, 256, (40, *shape), dtype=np.uint8)
    data = imported(tmp_path, x=x, y=Y)
    channels = 3 if 3 in shape else 1
    assert data.shape == (channels, 5, 6) and data.classes == ("0", "1", "2", "3")
    expected = x.transpose(0, 2, 3, 1) if shape[1:] == (5, 6) else x.reshape(40, 5, 6, channels)
    assert np.array_equal(data.raw(range(40)), expected)
    assert data.labels(range(40)).tolist() == Y.tolist()
    assert data.source(17) == "x[17]"


@pytest.mark.parametrize(("high", "note"), [(1.0, False), (255.0, False), (16.0, True)])
def test_floats_become_bytes(tmp_path: Path, high: float, note: bool) -> None:
    x = RANDOM.random((40, 4, 4)) * high
    x[0, 0, :2] = 0, high
    data = imported(tmp_path, x=x, y=Y)
    assert np.array_equal(data.raw(range(40))[..., 0], np.rint(x / high * 255))
    assert data.notes == (("Pixel values from 0 to 16 were stretched to 0–255.",) if note else ())


def test_given_parts_are_kept(tmp_path: Path) -> None:
    x = RANDOM.random((80, 3))
    data = imported(tmp_path, x_train=x[:40], y_train=Y, x_test=x[40:60], y_test=Y[:20], X_val=x[60:], y_val=Y[:20])
    assert data.counts() == {"train": 40, "val": 20, "test": 20}
    assert data.source(int(data.ids("test")[0])) == "x_test[0]"
    data = import_data(saved(tmp_path, x=x[:40], y=Y, x_test=x[40:], y_test=np.tile(Y, 1)), tmp_path / "e", name="n")
    assert data.counts() == {"train": 32, "val": 8, "test": 40}


def test_many_blocks_are_one_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.npzfile.BLOCK_BYTES", 100)
    x = RANDOM.random((40, 3)).astype(np.float32)
    data = imported(tmp_path, x=x, y=Y, features=np.array(["a", "b", "c"]))
    assert np.array_equal(data.raw(range(40)), x) and data.features == ("a", "b", "c")


def test_words_are_classes_in_natural_order(tmp_path: Path) -> None:
    words = np.array(["b10", "b2", "a", "b2"] * 10)
    data = imported(tmp_path, x=RANDOM.random((40, 2)), y=words)
    assert data.classes == ("a", "b2", "b10")
    assert [data.classes[label] for label in data.labels(range(40))] == words.tolist()
    assert imported(tmp_path / "..", x=RANDOM.random((40, 2)), y=words.astype("S")).classes == data.classes


def test_named_classes_keep_their_numbers(tmp_path: Path) -> None:
    y = Y.copy()
    y[:2] = 7, -1
    data = imported(tmp_path, x=RANDOM.random((40, 2)), y=y, classes=np.array(["z", "y", "x", "w", "unused"]))
    assert data.classes == ("z", "y", "x", "w", "unused")
    assert [(p.where, p.reason) for p in data.problems] == [
        ("x[0]", "Its label 7 is not a position in the list of 5 classes."),
        ("x[1]", "Its label -1 is not a position in the list of 5 classes."),
    ]
    assert data.labels(range(38)).tolist() == y[2:].tolist()


def test_floats_are_a_regression_and_many_integers_of_images_are_not(tmp_path: Path) -> None:
    data = imported(tmp_path, x=RANDOM.random((40, 2)), y=RANDOM.random((40, 1)))
    assert (data.task, data.classes) == ("regression", ("y",))
    y = np.repeat(np.arange(60), 2)
    x = RANDOM.integers(0, 256, (120, 3, 3), dtype=np.uint8)
    data = import_data(saved(tmp_path, x=x, y=y), tmp_path / "e", name="n")
    assert len(data.classes) == 60
    data = import_data(saved(tmp_path, x=RANDOM.random((120, 2)), y=y), tmp_path / "f", name="n")
    assert data.task == "regression"


def test_without_labels_it_is_unlabelled(tmp_path: Path) -> None:
    assert imported(tmp_path, x=RANDOM.random((9, 2))).counts() == {"unlabelled": 9}
    with pytest.raises(DataError, match="no labels 'y'"):
        import_data(tmp_path / "a.npz", tmp_path / "e", name="n", task="classification")


def test_unusable_rows_are_named(tmp_path: Path) -> None:
    x, y = RANDOM.random((40, 2)), Y.astype(float)
    x[3, 1], y[5] = np.nan, np.inf
    data = imported(tmp_path, x=x, y=y)
    assert len(data) == 38
    assert [p.where for p in data.problems] == ["x[3]", "x[5]"]
    images = RANDOM.random((40, 3, 3))
    images[7, 0, 0] = np.inf
    data = import_data(saved(tmp_path, x=images, y=Y), tmp_path / "e", name="n")
    assert [(p.where, p.reason) for p in data.problems] == [("x[7]", "It holds a pixel that is not a finite number.")]


def test_sniff_and_peek(tmp_path: Path) -> None:
    path = saved(tmp_path, x=RANDOM.random((40, 3, 3)), y=Y, classes=np.array(list("abcd")))
    assert (sniff(path).kind, sniff(path).entries) == ("npz", 40)
    shown = peek(path, 8)
    assert sorted(label for _, label in shown) == list("aabbccdd")
    assert all(isinstance(picture, bytes) for picture, _ in shown)
    row, label = peek(saved(tmp_path, x=np.eye(3)), 1)[0]
    assert label == "" and isinstance(row, dict) and list(row) == ["feature 1", "feature 2", "feature 3"]
    assert columns(path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roles": ["train"] * 3 + ["dev"]}, "no role 'dev'"),
        ({"roles": ["train"]}, "not as many sources or roles"),
        ({"y": np.array([0, 1, 2, 0])}, "not a class number from 0 to 1"),
        ({"y": np.zeros((4, 1), int)}, "targets have the shape"),
        ({"x": np.zeros((4, 2, 2))}, "samples are float64"),
        ({"features": ("only",)}, "2 features but 1 names"),
    ],
)
def test_from_arrays_checks_what_it_is_given(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"x": np.arange(8.0).reshape(4, 2), "y": np.array([0, 1, 0, 1])} | change
    x, y = given.pop("x"), given.pop("y")
    with pytest.raises(DataError, match=message):
        from_arrays(tmp_path / "d", x, y, classes="ab", name="n", task="classification", **given)


def test_from_arrays_keeps_roles_and_sources(tmp_path: Path) -> None:
    x, roles = np.arange(12.0).reshape(6, 2), ["test", "train", "preserve", "val", "train", "new"]
    y, sources = np.array([0, 1, 0, 1, 0, 1]), [f"case {n}" for n in range(6)]
    data = from_arrays(
        tmp_path / "d", x, y, classes="ab", name="n", task="classification", roles=roles, sources=sources
    )
    assert data.counts() == {"train": 2, "val": 1, "preserve": 1, "new": 1, "test": 1}
    assert data.ids("preserve").tolist() == [2] and data.source(5) == "case 5"
