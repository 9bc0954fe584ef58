"""Masks at a given rate: the share of parameters counted one by one, every way to choose, the control."""

from __future__ import annotations

import pytest
import torch

from surgery.analysis.masking import WAYS, importance, keep_at, masked, order_of, shapes_of, shuffled, without
from surgery.analysis.slices import layers_of
from surgery.edit.shrink import shrink
from surgery.errors import SelectionError
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from tests import pico


@pytest.fixture
def model() -> Model:
    torch.manual_seed(3)
    module = pico.Residual().eval()
    index, support = trace(module, torch.rand(2, 1, 8, 8))
    spec = InputSpec("image", (1, 8, 8), (0.3,), (0.4,))
    return Model(module, Architecture("pico"), spec, "classification", ("bars", "columns", "square"), index, support)


def count(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.module.parameters())


def test_what_is_masked_is_what_shrinking_takes_out(model: Model) -> None:
    index, shapes = model.index, shapes_of(model)
    assert masked(index, shapes, torch.ones(index.n, dtype=torch.bool)) == 0
    order = order_of(index, torch.rand(index.n, generator=torch.Generator().manual_seed(1)))
    for length in range(1, len(order)):
        keep = without(index, order[:length])
        small, _old = shrink(model, keep)
        assert masked(index, shapes, keep) == pytest.approx(1 - count(small) / count(model))


def test_the_keep_comes_nearest_to_the_rate(model: Model) -> None:
    index, shapes = model.index, shapes_of(model)
    order = order_of(index, torch.arange(index.n).float())
    every = [masked(index, shapes, without(index, order[:length])) for length in range(len(order) + 1)]
    for rate in (0.0, 0.1, 0.25, 0.4, 1.0):
        found = masked(index, shapes, keep_at(index, shapes, order, rate))
        assert abs(found - rate) == pytest.approx(min(abs(share - rate) for share in every))
    with pytest.raises(SelectionError, match=r"from 0 to 1, this one is 20"):
        keep_at(index, shapes, order, 20)


def test_the_ways_rank_as_they_say(model: Model) -> None:
    index = model.index
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(index.n, 3, generator=generator)[index.group]
    level = torch.rand(index.n, 3, generator=generator)[index.group]
    found = {way: importance(way, index, score, level) for way in WAYS}
    theta = 0.6
    needed = (level < theta).any(1)
    assert found["theta"][needed].min() > found["theta"][~needed].max(), "a slice at Θ is a piece of the ranking"
    assert torch.equal(found["all"], score.amax(1))
    for own in layers_of(index):
        half = found["global"][own] > 0.5
        assert score.mean(1)[own][half].min() >= score.mean(1)[own][~half].max()
        best = score[own].argmax(0)
        assert (found["class"][own][best] == 1).all(), "the first of each class stays longest"
    for way in WAYS:
        order = order_of(index, found[way])
        for own in layers_of(index):
            assert not torch.isin(own, order).all(), "every layer keeps one"


def test_the_control_keeps_as_many_of_every_layer(model: Model) -> None:
    index = model.index
    members = (torch.rand(index.n, generator=torch.Generator().manual_seed(2)) < 0.4)[index.group] & ~index.logits
    control = shuffled(index, members, seed=1)
    assert control[index.logits].all()
    for own in layers_of(index):
        assert control[own].sum() == members[own].sum()
    assert torch.equal(index.close(control), control)
    assert any(not torch.equal(shuffled(index, members, seed), control) for seed in range(2, 6))
