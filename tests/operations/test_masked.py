"""What is kept of the samples changes neither the answers under a mask nor their gradients."""

from __future__ import annotations

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import means_of
from surgery.edit.gate import gate
from surgery.errors import DataError
from surgery.network.model import Model
from surgery.operations import masked
from surgery.operations.masked import Masked
from tests.patients import digits


def late(model: Model) -> torch.Tensor:
    """bool[N]: the neurons of the last hidden layers, so that a pass can start in the middle."""
    index = model.index
    layers = len(index.layers)
    late = index.point & ~index.fixed & (index.layer_of >= layers - 2)
    return late[index.group]


def test_answers_and_gradients_are_those_of_whole_passes(pico_images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = digits(), pico_images.without_test()
    ids, means, free = data.ids("train"), means_of(model, data, Context()), late(model)
    quick = Masked(model, means, data, ids, free, Context(), 3)
    assert quick.cut
    assert 0 < quick.skipped < 1
    monkeypatch.setattr(masked, "KEPT", 0)
    slow = Masked(model, means, data, ids, free, Context(), 3)
    assert slow.cut is None
    found = []
    for runs in (quick, slow):
        mask = torch.where(free, 0.5, 1.0).requires_grad_()
        out = runs.under(0, mask, learning=True)
        out.square().sum().backward()
        found.append((out.detach(), mask.grad[free]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    x = next(iter(data.batches(ids[: quick.size], model.input, size=quick.size)))[0]
    with torch.no_grad(), gate(model.module, model.index, torch.where(free, 0.5, 1.0), means):
        torch.testing.assert_close(found[0][0], model(x), rtol=1e-5, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.module.parameters()), "the model itself is not touched"


def test_batches_shrink_until_all_masks_fit_in_memory(pico_images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = digits(), pico_images.without_test()
    monkeypatch.setattr(masked, "LIVE", 2_000)
    runs = Masked(model, {}, data, data.ids("train"), late(model), Context(), 3)
    assert 1 <= runs.size < 64
    masks = torch.ones(2, model.index.n)
    assert runs.outputs(masks, "trying").shape == (2, len(data.ids("train")), 3)
    together = torch.cat([runs.truths(batch) for batch in range(len(runs.ids))])
    assert torch.equal(together, runs.truth)


def test_without_labels_it_says_so(pico_images: Dataset) -> None:
    with pytest.raises(DataError, match="no labelled samples"):
        Masked(digits(), {}, pico_images, pico_images.ids("train")[:0], late(digits()), Context(), 1)
