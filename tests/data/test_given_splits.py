"""Splits that come with a file: what becomes of each is told, chosen, and never trained on by accident."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surgery.data import limited
from surgery.data.dataset import Dataset
from surgery.data.load import import_data
from surgery.data.splits import SplitFound, uses
from surgery.errors import DataError


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(folder: Path, counts: dict[str, int], *, same: bool = False, empty: tuple[str, ...] = ()) -> Path:
    """`counts` images of two classes for each folder; with `same` each folder holds the same ones."""
    with zipfile.ZipFile(folder / "t.zip", "w") as archive:
        for place, (split, count) in enumerate(counts.items()):
            for number in range(count):
                name = f"{split}/{'ab'[number % 2]}/{number}.png"
                archive.writestr(name, png(number if same else 1000 * place + number))
        for name in empty:
            archive.writestr(f"{name}/", b"")
    return folder / "t.zip"


def imported(path: Path, **choices: Any) -> Dataset:
    return import_data(path, path.parent / "d", name="n", **choices)


def test_a_file_of_test_samples_alone_is_never_trained_on(tmp_path: Path) -> None:
    data = imported(zipped(tmp_path, {"test": 20}))
    assert data.counts() == {"test": 20}
    assert data.notes[0].startswith("There are only test samples: models can be measured on this dataset, not trained")
    assert set(imported(zipped(tmp_path, {"test": 20}), splits={"test": "deal"}).counts()) == {"train", "val", "test"}


def test_training_samples_without_others_are_dealt(tmp_path: Path) -> None:
    assert set(imported(zipped(tmp_path, {"train": 20})).counts()) == {"train", "val", "test"}
    counts = imported(zipped(tmp_path, {"train": 20, "test": 6})).counts()
    assert counts["test"] == 6 and counts["train"] + counts["val"] == 20


def test_a_split_is_used_as_the_user_says(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"train": 20, "valid": 6, "test": 8})
    assert imported(path).counts() == {"train": 20, "val": 6, "test": 8}
    assert imported(path, splits={"test": "drop"}).counts() == {"train": 20, "val": 6}
    assert imported(path, splits={"valid": "test", "test": "val"}).counts() == {"train": 20, "val": 8, "test": 6}
    with pytest.raises(DataError, match=r"The file has no split 'tests'; it has 'train', 'valid', 'test'\."):
        imported(path, splits={"tests": "drop"})


def test_a_folder_beside_splits_is_asked_about_not_taken_for_a_class(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"train": 20, "test": 6, "extra": 4})
    with pytest.raises(DataError, match=r"Nothing says what becomes of 'extra' beside 'train', 'test'\."):
        imported(path)
    assert imported(path, splits={"extra": "drop"}).classes == ("a", "b")


def test_a_split_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"train": 20, "test": 20}, same=True)
    with pytest.raises(DataError, match=r"Every training sample is also in test: nothing is left of train\."):
        imported(path)
    assert set(imported(path, splits={"test": "drop"}).counts()) == {"train", "val", "test"}


def test_what_is_shared_is_told_before_the_import(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"train": 20, "test": 6}, same=True)
    found = limited.look(path).splits
    assert found == [SplitFound("train", 20, "deal", shared=6), SplitFound("test", 6, "test", shared=0)]
    assert "6 of 20 training samples are also in test; they were left out of train." in imported(path).notes
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    assert limited.look(tmp_path / "folder").splits == found


def test_empty_class_folders_are_named(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"train": 20, "test": 6}, empty=("train/c", "test/a"))
    assert [problem.where for problem in imported(path).problems] == ["train/c"]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    assert [problem.where for problem in import_data(tmp_path / "folder", tmp_path / "e", name="n").problems] == [
        "train/c"
    ]


def test_arrays_are_used_as_the_user_says(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((30, 3)), np.arange(30) % 2
    np.savez(tmp_path / "t.npz", x=x[:20], y=y[:20], x_test=x[20:], y_test=y[20:])
    assert limited.look(tmp_path / "t.npz").splits == [SplitFound("train", 20, "deal"), SplitFound("test", 10, "test")]
    assert imported(tmp_path / "t.npz").counts()["test"] == 10
    assert imported(tmp_path / "t.npz", splits={"train": "drop"}).counts() == {"test": 10}


def test_a_column_names_the_splits(tmp_path: Path) -> None:
    splits = ["train"] * 20 + ["Test"] * 10 + ["holdout"] * 5
    lines = ["a,part,y", *(f"{n},{split},{'pq'[n % 2]}" for n, split in enumerate(splits)), "3,test,q"]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines[:31]))
    with pytest.raises(DataError, match=r"'part' \('train', line 2\)") as caught:
        imported(path, target="y")
    assert "--split-column part" in caught.value.fix
    data = imported(path, target="y", split="part")
    assert data.counts()["test"] == 10 and len(data) == 30 and data.features == ("a",)
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"Nothing says what becomes of 'holdout'"):
        imported(path, target="y", split="part")
    data = imported(path, target="y", split="part", splits={"holdout": "val"})
    assert data.counts() == {"train": 19, "val": 5, "test": 11}  # one training row is in test too
    assert [found.count for found in limited.look(path, split="part").splits] == [20, 11, 5]


def test_training_samples_give_validation_samples_where_none_came() -> None:
    assert uses(["train", "test"], {}) == {"train": "deal", "test": "test"}
    assert uses(["train", "dev"], {}) == {"train": "train", "dev": "val"}
