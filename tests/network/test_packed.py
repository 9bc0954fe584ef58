"""A model in few bits: its bytes on disk, back again, cut, exported, and what happens when it is trained on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.quantize import covering, on_grid, settled, weights_of
from surgery.edit.shrink import shrink
from surgery.edit.tune import tune
from surgery.network import store
from surgery.network.cost import bytes_of
from surgery.network.load import reopen
from surgery.network.model import Model
from surgery.network.read import read
from tests.patience import SECONDS
from tests.patients import digits


def few(model: Model, bits: float = 3.0) -> Model:
    """Every weight in so many bits."""
    held = {}
    for weight in weights_of(model):
        parameter = dict(model.module.named_parameters())[weight.name]
        each = torch.full((len(weight.rows),), bits)
        packing = settled(each, covering(parameter.movedim(weight.axis, 0), each), weight.axis)
        with torch.no_grad():
            parameter.copy_(on_grid(parameter, packing))
        held[weight.name] = packing
    return replace(model, held=held)


def test_bytes_are_those_on_disk_and_the_outputs_come_back(tmp_path: Path) -> None:
    whole = digits((16, 24, 32))
    before = bytes_of(whole)
    model = few(whole)
    store.save(model, tmp_path / "stored")
    size = (tmp_path / "stored" / "model.safetensors").stat().st_size
    header = len((tmp_path / "stored" / "architecture.json").read_bytes())
    assert bytes_of(model) < 0.35 * before
    assert abs(size - bytes_of(model) - header) < 600, "but for the description in the header"
    again = store.load(tmp_path / "stored")
    x = torch.randn(4, *model.input.shape)
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x), rtol=1e-5, atol=1e-5)
    assert again.held.keys() == model.held.keys()
    assert bytes_of(again) == bytes_of(model)
    opened = reopen(read(tmp_path / "stored" / "model.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(opened(x), again(x), rtol=0, atol=0)
    assert bytes_of(opened) == bytes_of(model)


def test_a_cut_leaves_the_rest_packed_and_training_does_not(pico_images: Dataset) -> None:
    model = few(digits((16, 24, 32)))
    keep = model.index.close(torch.rand(model.index.n, generator=torch.Generator().manual_seed(0)) > 0.3)
    small, _ = shrink(model, keep)
    assert bytes_of(small) < bytes_of(model)
    assert bytes_of(replace(small, held={})) > 2 * bytes_of(small)
    tuned = tune(small, pico_images.without_test(), Context(), epochs=1, rate=1e-3)
    assert bytes_of(tuned) == bytes_of(replace(tuned, held={})), "off the grid it is stored whole"


def test_the_exported_loader_reads_few_bits_in_a_process_of_its_own(tmp_path: Path) -> None:
    model = few(digits())
    store.save(model, tmp_path / "stored")
    store.export(tmp_path / "stored", tmp_path / "out", "safetensors")
    x = torch.randn(2, *model.input.shape)
    torch.save(x, tmp_path / "x.pt")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'out')!r}); import torch; from loader import load; "
        f"x = torch.load({str(tmp_path / 'x.pt')!r}); torch.save(load()(x), {str(tmp_path / 'y.pt')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=SECONDS)
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "y.pt").detach(), model(x), rtol=1e-5, atol=1e-5)
