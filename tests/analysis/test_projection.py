from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform

from surgery.analysis import projection
from surgery.analysis.neurons import save
from surgery.analysis.projection import features, pca, project, spread, umap
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.data.dataset import Dataset
from tests.pico import pico_model


def blobs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated clouds in six dimensions, and the cloud of each row."""
    owner = np.arange(count) % 3
    centres = np.eye(3, 6) * 20
    return centres[owner] + np.random.default_rng(0).normal(size=(count, 6)), owner


def nearest_is_kin(places: np.ndarray, owner: np.ndarray) -> float:
    apart = squareform(pdist(places))
    np.fill_diagonal(apart, np.inf)
    return float((owner[apart.argmin(1)] == owner).mean())


def test_pca_is_that_of_the_covariance() -> None:
    rows, _ = blobs(60)
    places = pca(rows)
    centred = rows - rows.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    for axis in range(2):
        vector = vectors[:, -1 - axis]
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        assert np.allclose(places[:, axis], centred @ vector, atol=1e-4)


def test_pca_of_hardly_anything_lies_at_the_origin() -> None:
    assert pca(np.ones((5, 3))).tolist() == [[0, 0]] * 5
    assert pca(np.zeros((0, 3))).shape == (0, 2)
    assert pca(np.array([[1.0], [2.0], [4.0]]))[:, 1].tolist() == [0, 0, 0]


def test_umap_keeps_kin_together_and_is_seeded() -> None:
    rows, owner = blobs(120)
    first, again = umap(rows, seed=3), umap(rows, seed=3)
    assert first.shape == (120, 2)
    assert np.array_equal(first, again)
    assert nearest_is_kin(first, owner) == 1.0


def test_below_a_hundred_points_umap_is_pca() -> None:
    rows, _ = blobs(99)
    assert np.array_equal(umap(rows), pca(rows.astype(np.float32)))


def test_features_do_not_depend_on_how_loud_a_neuron_is(pico_images: Dataset) -> None:
    found = scan(pico_model(), pico_images, Context())
    rows = features(found)
    assert rows.shape == (20, 9)
    assert np.isfinite(rows).all()
    assert np.abs(rows[:, :3]).max() <= (found.samples / float(found.count.min())) ** 0.5 + 1e-6
    loud = features(type(found)(**{**vars(found), "mean": found.mean * 100, "var": found.var * 10_000}))
    assert np.allclose(rows, loud, atol=1e-6)


def test_members_of_a_group_lie_where_their_point_lies() -> None:
    placed = spread(np.array([[1, 2], [3, 4]], dtype=np.float32), np.array([0, 1]), np.array([0, 1, 1, 0, 4]))
    assert placed[:4].tolist() == [[1, 2], [3, 4], [3, 4], [1, 2]]
    assert np.isnan(placed[4]).all()


def test_project_completes_a_saved_table(tmp_path: Path, pico_images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico_model()
    save(model, scan(model, pico_images, Context()), tmp_path)
    before = pd.read_parquet(tmp_path / projection.TABLE)
    assert before["map_x"].isna().all()
    seeds: list[int] = []

    def plane(rows: np.ndarray, seed: int) -> np.ndarray:
        seeds.append(seed)
        return np.arange(2 * len(rows), dtype=np.float32).reshape(-1, 2)

    monkeypatch.setattr(projection, "umap", plane)
    project(tmp_path, seed=5)
    after = pd.read_parquet(tmp_path / projection.TABLE)
    assert seeds == [5]
    points = after[after["point"]]
    assert points["map_x"].tolist() == [2.0 * i for i in range(len(points))]
    assert points["map_y"].tolist() == [2.0 * i + 1 for i in range(len(points))]
    others = [name for name in before if name not in ("map_x", "map_y")]
    pd.testing.assert_frame_equal(before[others], after[others])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("neurons.parquet", "responses.safetensors", "scan.json", "scan.safetensors")
    ]
