"""Data as it might come later: what each change does, and what a drifted copy keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from surgery.context import Context
from surgery.data import drift
from surgery.data.dataset import Dataset
from surgery.errors import DataError


def test_every_change_does_what_it_says(pico_images: Dataset) -> None:
    ids = pico_images.ids("train")
    clean = pico_images.raw(ids).astype(float)
    changed = {kind: drift.drifted(pico_images, ids, kind, 0.5).astype(float) for kind in drift.KINDS}
    assert all(one.shape == clean.shape for one in changed.values())
    assert changed["brightness"].mean() > clean.mean() + 50
    spread = [x.std((1, 2, 3)).mean() for x in (clean, changed["contrast"], changed["blur"], changed["noise"])]
    assert spread[1] < 0.7 * spread[0]
    assert spread[2] < spread[0] < spread[3]


@pytest.mark.parametrize("kind", drift.KINDS)
def test_no_strength_changes_nothing(pico_images: Dataset, kind: str) -> None:
    ids = pico_images.ids("val")
    assert np.array_equal(drift.drifted(pico_images, ids, kind, 0.0), pico_images.raw(ids))


def test_a_copy_keeps_labels_and_roles(pico_images: Dataset, tmp_path: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        return drift.drifted(pico_images, ids, "noise", 0.5)

    made = drift.make(pico_images, tmp_path / "x", change, Context(), name="noisier")
    assert made.counts() == pico_images.counts()
    assert made.classes == pico_images.classes
    for role in ("train", "val", "test"):
        assert np.array_equal(made.labels(made.ids(role)), pico_images.labels(pico_images.ids(role)))
    assert not np.array_equal(made.raw(made.ids("val")), pico_images.raw(pico_images.ids("val")))
    again = drift.make(pico_images, tmp_path / "y", change, Context(), name="noisier")
    assert again.digest == made.digest


def test_tables_get_noise_in_units_of_their_spread(pico_table: Dataset) -> None:
    ids = pico_table.ids("train")
    moved = drift.drifted(pico_table, ids, "noise", 0.5) - pico_table.raw(ids)
    assert moved.std(0) == pytest.approx(0.5 * pico_table.raw(ids).std(0), rel=0.4)


def test_what_there_is_not_is_refused(pico_images: Dataset, pico_table: Dataset) -> None:
    with pytest.raises(DataError, match="no drift 'fog'"):
        drift.drifted(pico_images, pico_images.ids("val"), "fog", 0.5)
    with pytest.raises(DataError, match="Choose one of noise"):
        drift.drifted(pico_table, pico_table.ids("val"), "blur", 0.5)
    with pytest.raises(DataError, match="from 0 to 1"):
        drift.drifted(pico_images, pico_images.ids("val"), "blur", 2.0)
