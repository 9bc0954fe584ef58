"""Slices on hard ground: empty classes, silent layers, ties, groups; and what is read off a slice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from surgery.analysis.scan import scan
from surgery.analysis.slices import counts, critical, layers_of, levels
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.errors import SelectionError
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from tests import pico


@pytest.fixture
def model() -> Model:
    """A residual network with random weights, on the drawings."""
    torch.manual_seed(3)
    module = pico.Residual().eval()
    index, support = trace(module, torch.rand(2, 1, 8, 8))
    spec = InputSpec("image", (1, 8, 8), (0.3,), (0.4,))
    return Model(module, Architecture("pico"), spec, "classification", ("bars", "columns", "square"), index, support)


def test_every_layer_keeps_a_neuron_at_any_theta_and_all_at_the_top(model: Model, pico_images: Dataset) -> None:
    found = scan(model, pico_images, Context())
    level = levels(model, pico_images, found, found.absolute, Context())
    least, most = critical(level, 1e-9), critical(level, 1.1)
    hidden = ~model.index.logits
    assert most[hidden].all() and not most[model.index.logits].any()
    for own in layers_of(model.index):
        assert (least[own].sum(0) == 1).all()
    smaller, larger = critical(level, 0.8), critical(level, 0.95)
    assert (smaller <= larger).all(), "a higher threshold keeps more"
    assert (counts(model.index, larger) >= counts(model.index, smaller)).all()
    for number in model.index.group.unique():
        assert len(larger[model.index.group == number].unique(dim=0)) == 1, "a group is critical or not as one"


def test_a_class_without_samples_has_no_slice(model: Model, pico_images: Dataset) -> None:
    found = scan(model, pico_images, Context())
    found = replace(found, count=torch.tensor([0.0, *found.count[1:]]))
    level = levels(model, pico_images, found, found.absolute, Context())
    assert not critical(level, 1.1)[:, 0].any()
    assert critical(level, 0.9)[:, 1].any()


def test_a_silent_layer_needs_one_neuron(model: Model, pico_images: Dataset) -> None:
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.zero_()
    found = scan(model, pico_images, Context())
    for criterion in ("cosine", "cka", "mass"):
        level = levels(model, pico_images, found, found.absolute, Context(), criterion=criterion)
        assert torch.isfinite(level[~model.index.logits]).all()


def test_a_score_of_another_model_is_refused(model: Model, pico_images: Dataset) -> None:
    found = scan(model, pico_images, Context())
    with pytest.raises(SelectionError, match=r"must be float\[\d+, 3\], this one is \[2, 3\]"):
        levels(model, pico_images, found, torch.zeros(2, 3), Context())
