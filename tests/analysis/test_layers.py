"""Layers that say the same: CKA between all of them, runs of like ones, and the file beside a scan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from surgery.analysis import layers
from surgery.analysis.scan import scan
from surgery.analysis.slices import observe
from surgery.context import Context
from surgery.data.dataset import Dataset
from tests.pages.patients import network


def test_a_turned_layer_is_the_same_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(60, 5, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator))
    found = layers.matrix([one, 3 * one @ turn, torch.randn(60, 5, generator=generator)])
    assert float(found[0, 1]) == pytest.approx(1.0)
    assert abs(float(found[0, 2])) < 0.3
    assert torch.allclose(found, found.T)
    assert layers.runs(found) == (0, 0, 1)
    assert layers.runs(found[:1, :1]) == (0,)
    assert torch.equal(layers.matrix([one[:3], one[:3]]), torch.eye(2, dtype=torch.float64)), "too few samples"


def test_the_file_names_the_layers(pico_images: Dataset, tmp_path: Path) -> None:
    model = network(pico_images)
    seen = observe(model, pico_images, scan(model, pico_images, Context()), Context())
    layers.save(model, seen, tmp_path)
    about = json.loads((tmp_path / layers.TABLE).read_text())
    assert set(about["layers"]) < set(model.index.layers)
    assert len(about["cka"]) == len(about["groups"]) == len(about["layers"])
    assert about["samples"] == len(seen.mean)
