"""Slices on hard ground: empty classes, silent layers, ties, groups; and what is read off a slice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from surgery.analysis.scan import scan
from surgery.analysis.slices import alike, counts, critical, global_rank, jaccard, layers_of, levels, top_share
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


def test_overlap_and_groups_of_classes() -> None:
    members = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]).bool()
    overlap = jaccard(members)
    assert float(overlap[0, 1]) == pytest.approx(2 / 3)
    assert float(overlap[0, 2]) == 0.0
    assert float(overlap[3, 3]) == 1.0, "two empty sets are equal"
    assert alike(members) == (0, 0, 1, 2)
    assert alike(members, tau=0.7) == (0, 1, 2, 3)
    assert alike(members[:, :1]) == (0,)


def test_baselines_and_the_global_ranking(model: Model) -> None:
    index = model.index
    score = torch.rand(index.n, 3, generator=torch.Generator().manual_seed(0))[index.group]
    members = top_share(index, score, 0.5)
    for own in layers_of(index):
        assert (members[own].sum(0) == max(1, round(len(own) / 2))).all()
        for c in range(3):
            chosen = members[own, c]
            if chosen.any() and not chosen.all():
                assert score[own][chosen, c].min() >= score[own][~chosen, c].max()
    rank = global_rank(index, score)
    points = index.point.nonzero()[:, 0]
    assert float(rank[points].min()) == 0.0 and float(rank[points].max()) == 1.0
    best = points[score[points].amax(1).argmax()]
    assert float(rank[best]) == 1.0
    assert (rank[index.logits] == 1).all()
