"""A dataset answers by role and by number, and closes its test samples to operations."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.errors import DataError


def test_roles_are_disjoint_and_cover_everything(pico_images: Dataset) -> None:
    roles = [pico_images.ids(role) for role in ("train", "val", "preserve", "unlabelled", "new", "test")]
    assert sorted(np.concatenate(roles).tolist()) == list(range(60))
    assert pico_images.counts() == {"train": 42, "val": 9, "test": 9}


def test_opening_again_gives_the_same_dataset(pico_images: Dataset) -> None:
    again = Dataset.open(pico_images.folder)
    assert again == pico_images
    assert np.array_equal(again.raw([5, 2]), pico_images.raw([5, 2]))
    with pytest.raises(FrozenInstanceError):
        again.name = "other"  # type: ignore[misc]


def test_raw_keeps_the_order_and_repeats(pico_table: Dataset) -> None:
    everything = pico_table.raw(range(90))
    ids = np.array([7, 3, 3, 88, 4, 5, 6])
    assert np.array_equal(pico_table.raw(ids), everything[ids])
    assert pico_table.raw([]).shape == (0, 4)


def test_rows_pictures_and_sources(pico_images: Dataset, pico_table: Dataset) -> None:
    picture = np.asarray(Image.open(io.BytesIO(pico_images.picture(4))))
    assert np.array_equal(picture, pico_images.raw([4])[0, ..., 0])
    assert pico_table.row(3) == dict(zip(pico_table.features, pico_table.raw([3])[0].tolist(), strict=True))
    assert pico_table.source(3) == "row 4"
    with pytest.raises(DataError, match="has no picture"):
        pico_table.picture(0)
    with pytest.raises(DataError, match="has no row"):
        pico_images.row(0)


def test_source_is_found_beyond_the_first_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.writer.GROUP", 7)
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    data = from_arrays(tmp_path / "d", x, np.arange(20) % 2, classes="ab", name="n", task="classification")
    assert [data.source(i) for i in (0, 6, 7, 19)] == ["row 1", "row 7", "row 8", "row 20"]


def test_without_test_closes_ids_and_samples(pico_images: Dataset) -> None:
    closed = pico_images.without_test()
    first = int(pico_images.ids("test")[0])
    assert "test" not in closed.counts()
    assert np.array_equal(closed.ids("val"), pico_images.ids("val"))
    with pytest.raises(DataError, match="test samples of 'drawings' are closed"):
        closed.ids("test")
    for read in (closed.raw, closed.labels):
        with pytest.raises(DataError, match=f"Sample {first} of 'drawings' is closed"):
            read([first])


@pytest.mark.parametrize("sample", [-1, 60])
def test_ids_out_of_range_are_named(pico_images: Dataset, sample: int) -> None:
    with pytest.raises(DataError, match=f"no sample {sample}. Sample ids run from 0 to 59"):
        pico_images.raw([sample])


def test_unknown_role_is_named(pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="no role 'dev'"):
        pico_images.ids("dev")


def test_preview_alternates_between_classes_and_avoids_test(pico_images: Dataset) -> None:
    shown = pico_images.preview(12, seed=3)
    assert np.bincount(pico_images.labels(shown)).tolist() == [4, 4, 4]
    assert pico_images.labels(shown[:3]).tolist() == [0, 1, 2]
    assert not set(shown) & set(pico_images.ids("test"))
    assert np.array_equal(shown, pico_images.preview(12, seed=3))


def test_probe_ids_come_from_val_in_proportion(pico_images: Dataset) -> None:
    probe = pico_images.probe_ids(6)
    assert set(probe) <= set(pico_images.ids("val"))
    assert np.bincount(pico_images.labels(probe)).tolist() == [2, 2, 2]
    assert np.array_equal(pico_images.probe_ids(1000), pico_images.ids("val"))


def test_unlabelled_data_has_a_probe_but_no_labels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    data = from_arrays(tmp_path / "d", x, None, classes=(), name="n", task="unlabelled")
    assert data.counts() == {"unlabelled": 30}
    assert len(data.probe_ids(10)) == 10
    assert len(data.preview()) == 12
    with pytest.raises(DataError, match="'n' has no labels"):
        data.labels([0])


def test_statistics_are_those_of_all_training_values(pico_images: Dataset, pico_table: Dataset) -> None:
    pixels = pico_images.raw(pico_images.ids("train")) / 255
    mean, std = pico_images.statistics()
    assert mean == pytest.approx([pixels.mean()]) and std == pytest.approx([pixels.std()])
    values = pico_table.raw(pico_table.ids("val")).astype(np.float64)
    mean, std = pico_table.statistics("val")
    assert mean == pytest.approx(values.mean(0)) and std == pytest.approx(values.std(0))


def test_statistics_survive_large_offsets_and_constants(tmp_path: Path) -> None:
    x = np.stack([1e6 + np.arange(600) % 7, np.full(600, 3.0)], axis=1)
    data = from_arrays(tmp_path / "d", x, None, classes=(), name="n", task="unlabelled")
    mean, std = data.statistics("unlabelled")
    assert std == pytest.approx((np.std(np.arange(600) % 7), 1.0))
    assert mean == pytest.approx(x.mean(0))
    with pytest.raises(DataError, match="no train samples"):
        data.statistics()


def test_regression_is_stratified_by_fifths(pico_targets: Dataset) -> None:
    assert pico_targets.classes == ("sum",)
    assert pico_targets.labels([0]).dtype == np.float32
    assert np.bincount(pico_targets.strata(range(90))).tolist() == [18] * 5


def test_a_view_for_a_model_has_only_samples_of_its_classes(pico_images: Dataset) -> None:
    view = pico_images.fitting(("square", "bars"))
    assert view.classes == ("bars", "square")
    for role in ("train", "val", "test"):
        ids = pico_images.ids(role)
        own = ids[pico_images.labels(ids) != 1]
        assert view.ids(role).tolist() == own.tolist()
        assert view.labels(own).tolist() == (pico_images.labels(own) // 2).tolist()
    assert sum(view.counts().values()) == 40
    assert set(view.labels(view.probe_ids())) == {0, 1}
    narrower = view.fitting(("square",))
    assert narrower.classes == ("square",)
    assert set(pico_images.labels(narrower.ids("train"))) == {2}
    assert set(narrower.labels(narrower.ids("train"))) == {0}
    assert view.without_test().fitting(("square",)).hidden == ("test",)


@pytest.mark.parametrize("classes", [("bars", "columns", "square"), ("bars", "moon"), ("a", "b"), ()])
def test_for_a_model_of_other_or_of_all_classes_it_stays_as_it_is(
    pico_images: Dataset, classes: tuple[str, ...]
) -> None:
    view = pico_images.fitting(classes)
    assert view is pico_images


@pytest.mark.parametrize("text", ["", "{", json.dumps({"format": 99})])
def test_a_damaged_or_newer_folder_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"no readable dataset|unknown format"):
        Dataset.open(tmp_path)


def test_a_shortened_file_is_noticed(tmp_path: Path) -> None:
    x = np.arange(200, dtype=np.float32).reshape(50, 4)
    data = from_arrays(tmp_path / "d", x, None, classes=(), name="n", task="unlabelled")
    content = (data.folder / "x.npy").read_bytes()
    (data.folder / "x.npy").write_bytes(content[:-5])
    assert data.raw([48]).shape == (1, 4)
    with pytest.raises(DataError, match=r"x\.npy of the dataset in 'd' ends too early"):
        data.raw([49])


def test_importing_data_needs_no_torch() -> None:
    code = (
        "import surgery.data.load, surgery.data.dataset, sys; print(*{'torch', 'umap', 'sklearn'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""
