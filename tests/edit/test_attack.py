"""Attacks stay within their budget and make the model err."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.attack import Attack, attacked
from surgery.edit.tune import tune
from surgery.network.model import Model
from tests import pico


@pytest.fixture(scope="module")
def trained(pico_images: Dataset) -> Model:
    torch.manual_seed(3)
    return tune(pico.pico_model(), pico_images, Context(seed=1), epochs=300, rate=1e-2)


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_it_drives_the_loss_up_within_its_budget(trained: Model, pico_images: Dataset, kind: Attack) -> None:
    ids = pico_images.ids("train")
    clean = pico_images.raw(ids)
    found = attacked(trained, pico_images, ids, kind, 0.1, Context(seed=0))
    assert found.shape == clean.shape
    assert np.abs(found.astype(int) - clean).max() <= round(0.1 * 255) + 1
    truth = torch.from_numpy(pico_images.labels(ids))

    def loss(pixels: np.ndarray) -> float:
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(trained(x), truth))

    chance = np.random.default_rng(0).choice([-25, 25], clean.shape)
    noisy = (clean.astype(int) + chance).clip(0, 255).astype(np.uint8)
    assert loss(found) > loss(noisy), "worse than noise of the same size"
    assert loss(found) > loss(clean)
