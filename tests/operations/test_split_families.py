"""Splitting knows no architecture by name: residual, dense, depthwise and plain networks, cut out exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.compose import cut_out
from surgery.edit.gate import gate
from surgery.network.architectures import build
from surgery.network.certificate import relative
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec
from surgery.operations import learned
from surgery.operations.split import Split


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Coloured pictures of three classes: rows, columns, a square."""
    random, y = np.random.default_rng(0), np.arange(45) % 3
    x = random.uniform(0, 60, (45, 32, 32, 3))
    x[y == 0, ::2] += 150
    x[y == 1, :, ::2] += 150
    x[y == 2, 8:24, 8:24] += 150
    folder = tmp_path_factory.mktemp("textures") / "x"
    return from_arrays(folder, x.astype(np.uint8), y, classes=[*"abc"], name="textures", task="classification")


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "vgg11_bn"])
def test_two_steps_and_an_exact_cut(name: str, textures: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "MASK_EPOCHS", 2)
    monkeypatch.setattr(learned, "TRIALS", 1)
    architecture = Architecture(f"torchvision/{name}", {"num_classes": 3})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = build(architecture).state_dict()
    spec = InputSpec("image", (3, 32, 32), (0.5,) * 3, (0.3,) * 3)
    model = assemble(weights, architecture, input=spec, classes=[*"abc"])
    outcome = Split(cycles=1, tolerance=100, rate=0.1).operate([model], textures.without_test(), Context())
    assert (outcome.tables["steps"]["step"].str.contains("masks")).sum() == 2
    x = torch.randn(4, *spec.shape)
    for part in outcome.parts:
        assert part.figures["share"] < 1
        with torch.no_grad(), gate(model.module, model.index, part.keep.float(), part.means):
            masked = model(x)
        with torch.no_grad():
            assert relative(cut_out(model, part)(x), masked) <= 1e-5
