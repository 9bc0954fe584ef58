"""Twins are found where all readers see them alike, and only there."""

from __future__ import annotations

import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.inputs import inputs_of
from surgery.edit.twins import twins
from surgery.network.model import Model
from tests import pico

CTX = Context(seed=0)


def copied(model: Model, layer: str, source: int, target: int, factor: float = 1.0) -> Model:
    owner = model.module.get_submodule(layer)
    with torch.no_grad():
        owner.weight[target] = factor * owner.weight[source]
        owner.bias[target] = factor * owner.bias[source]
    return model


def test_a_copy_is_a_twin(pico_images: Dataset) -> None:
    model = copied(pico.pico_model(), "one", 0, 3, 2.0)
    rows = model.index.layers["one"].rows
    cut = twins(model.index, inputs_of(model, pico_images, CTX))
    pair = {int(rows[0]), int(rows[3])}
    moved = (cut != torch.arange(model.index.n)).nonzero()[:, 0].tolist()
    assert len(moved) == 1
    assert {moved[0], int(cut[moved[0]])} == pair


def test_coupled_neurons_are_twins_only_for_all_their_readers(pico_images: Dataset) -> None:
    model = pico.pico_model()
    with torch.no_grad():  # equal after the stem, different after the residual sum: the second reader tells them apart
        model.module.stem.weight[4] = model.module.stem.weight[2]
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(model.module.norm, name)
            tensor[4] = tensor[2]
    seen = inputs_of(model, pico_images, CTX)
    assert int(twins(model.index, seen)[4]) == 4
    with torch.no_grad():
        model.module.two.weight[4] = model.module.two.weight[2]
        model.module.two.bias[4] = model.module.two.bias[2]
    cut = twins(model.index, inputs_of(model, pico_images, CTX))
    two = model.index.layers["two"].rows
    assert (cut[4] == 2) != (cut[2] == 4)
    assert torch.equal(cut[two] != two, cut[:6] != torch.arange(6)), "what is coupled is merged together"


def test_of_three_alike_one_stays(pico_images: Dataset) -> None:
    model = copied(copied(pico.pico_model(), "one", 0, 3), "one", 0, 4, -1.0)
    rows = model.index.layers["one"].rows
    cut = twins(model.index, inputs_of(model, pico_images, CTX), least=0.9)
    left = [int(row) for row in rows[[0, 3]] if cut[row] == row]
    assert len(left) == 1
