"""Modules cut out of a network say what their masks say, alone and together."""

from __future__ import annotations

import pytest
import torch

from surgery.analysis.masking import order_of, without
from surgery.edit.gate import gate
from surgery.edit.heads import Head
from surgery.edit.together import cut_out, together
from surgery.measure.cost import parameters
from surgery.network.model import Model
from surgery.network.part import Part
from tests.pico import NETWORKS, pico_model
from tests.test_contract import digits


def parts_of(model: Model, share: float = 0.3) -> tuple[Part, ...]:
    generator = torch.Generator().manual_seed(1)
    index = model.index
    means = {name: torch.rand(len(layer.cols), generator=generator) for name, layer in index.layers.items()}
    parts = []
    for name in model.classes:
        order = order_of(index, torch.rand(index.n, generator=generator))
        keep = without(index, order[: round(share * len(order))])
        parts.append(Part(name, keep, (name,), means, Head(len(model.classes)).state_dict()))
    return tuple(parts)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda made: made.__name__)
def test_a_module_says_what_the_masked_network_says(network: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    model = pico_model(network())
    if model.support.level != "full":
        pytest.skip("cannot be cut")
    part = parts_of(model)[0]
    x = torch.randn(4, *model.input.shape)
    with torch.no_grad(), gate(model.module, model.index, part.keep.float(), part.means):
        masked = model(x)
    with torch.no_grad():
        torch.testing.assert_close(cut_out(model, part)(x), masked, rtol=1e-5, atol=1e-5)


def test_together_they_answer_with_the_score_of_each_head() -> None:
    model = digits()
    parts = parts_of(model)
    whole = together(model, parts)
    x = torch.randn(4, *model.input.shape)
    with torch.no_grad():
        found = whole(x)
        for k, part in enumerate(parts):
            head = Head(3)
            head.load_state_dict(dict(part.head))
            torch.testing.assert_close(found[:, k : k + 1], head(cut_out(model, part)(x)))
    assert whole.classes == model.classes
    assert whole.support.level == "inspect"


def test_what_modules_have_whole_is_stored_once() -> None:
    model = digits()
    everything = list(parts_of(model, 0.0))
    heads = sum(tensor.numel() for part in everything for tensor in part.head.values())
    everything = [Part(part.name, part.keep, part.classes, head=part.head) for part in everything]
    assert parameters(together(model, everything)) == parameters(model) + heads
