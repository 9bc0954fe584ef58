"""New outputs beside the old: nothing that the model knew changes, and it can be stored, cut and tuned as any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from surgery.edit.gate import gate
from surgery.edit.grow import grow
from surgery.edit.shrink import shrink
from surgery.errors import DataError, TraceError
from surgery.network import store
from surgery.network.certificate import relative, sample
from surgery.network.trace import trace
from tests import pico
from tests.patients import digits

X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [make for make in pico.NETWORKS if make is not pico.Functional])
def test_old_answers_stay(make: type[nn.Module]) -> None:
    model = pico.pico_model(make())
    grown = grow(model, ["moon", "star"], seed=1)
    with torch.no_grad():
        assert relative(grown(X)[:, :3], model(X)) <= 1e-6, "a wider product may round otherwise"
        assert grown(X).shape == (5, 5)
    assert grown.classes == ("bars", "columns", "square", "moon", "star")
    assert grown.index.n == model.index.n + 2
    assert grown.index.logits.sum() == 5
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(grown.module.state_dict()[name][tuple(slice(size) for size in tensor.shape)], tensor)


@pytest.mark.parametrize("make", [pico.Residual, pico.Concat, pico.Shuffled])
def test_its_numbering_is_the_one_a_fresh_look_finds(make: type[nn.Module]) -> None:
    grown = grow(pico.pico_model(make()), ["moon"])
    fresh, _ = trace(grown.module, X[:1])
    assert torch.equal(fresh.group, grown.index.group)
    assert torch.equal(fresh.fixed, grown.index.fixed)
    for name, layer in fresh.layers.items():
        assert torch.equal(layer.rows, grown.index.layers[name].rows)
        assert torch.equal(layer.cols, grown.index.layers[name].cols)


def test_it_can_be_cut_stored_and_grown_again(tmp_path: Path) -> None:
    grown = grow(grow(digits(), ["moon"]), ["star"])
    keep = sample(grown.index, 0.3)
    small, _ = shrink(grown, keep)
    with torch.no_grad():
        with gate(grown.module, grown.index, keep.float()):
            assert relative(small(X), grown(X)) <= 1e-5
        for number, model in enumerate((grown, small)):
            store.save(model, tmp_path / str(number))
            again = store.load(tmp_path / str(number))
            assert torch.equal(again(X), model(X))
            assert again.classes == model.classes


def test_what_cannot_grow_says_why() -> None:
    model = pico.pico_model()
    with pytest.raises(DataError, match="known already or named twice: bars"):
        grow(model, ["bars"])
    with pytest.raises(DataError, match="named twice"):
        grow(model, ["moon", "moon"])
    with pytest.raises(TraceError, match="Only a classifier"):
        grow(replace(model, task="regression"), ["moon"])
