"""Modules cut out of a network say what their masks say, alone and together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from surgery.analysis.masking import order_of, without
from surgery.edit.compose import Member, alone, compose, cut_out, together
from surgery.edit.gate import gate
from surgery.edit.shrink import shrink
from surgery.network import store
from surgery.network.architectures import build
from surgery.network.certificate import relative, sample
from surgery.network.composed import Adapter, Head
from surgery.network.cost import parameters
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec, Model, Origin
from surgery.network.part import Part
from tests.patients import digits
from tests.pico import NETWORKS, pico_model


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
    assert whole.support.level == "full"


def test_what_modules_have_whole_is_stored_once() -> None:
    model = digits()
    everything = list(parts_of(model, 0.0))
    heads = sum(tensor.numel() for part in everything for tensor in part.head.values())
    everything = [Part(part.name, part.keep, part.classes, head=part.head) for part in everything]
    assert parameters(together(model, everything)) == parameters(model) + heads + 3 * 4


def other() -> Model:
    """A network of another size of picture and other normalisation, of four classes."""
    torch.manual_seed(1)
    architecture = Architecture("sample/digits_cnn", {"widths": [4, 6, 5], "classes": 4})
    spec = InputSpec("image", (1, 12, 12), (0.3,), (0.2,))
    return assemble(build(architecture).state_dict(), architecture, input=spec, classes=[*"abcd"])


def mixed() -> Model:
    """A network with all outputs of one and a module of another that sees pictures differently."""
    one = digits()
    members = [Member(one, form="log_softmax"), Member(other(), Head(4).state_dict(), squash=True)]
    return compose(members, one.input, [*one.classes, "d"], torch.eye(4), torch.tensor([0.0, 0.0, 0.0, -1.0]))


def test_a_composed_model_names_whose_weights_it_holds_once() -> None:
    lent, own = Origin("Lent", "CC-BY-4.0"), Origin("Own")
    one, two = replace(digits(), origins=(own,)), replace(other(), origins=(lent, own))
    members = [Member(one), Member(two, Head(4).state_dict())]
    made = compose(members, one.input, [*one.classes, "d"], torch.eye(4), torch.zeros(4))
    assert made.origins == (own, lent)


def test_each_member_sees_the_picture_in_its_own_way() -> None:
    model = mixed()
    one, guest = model.module.members
    pixels = torch.rand(5, 1, 8, 8)
    large = F.interpolate(pixels, (12, 12), mode="bilinear", align_corners=False)
    with torch.no_grad():
        found = model((pixels - 0.5) / 0.5)
        torch.testing.assert_close(found[:, :3], torch.log_softmax(one((pixels - 0.5) / 0.5), 1))
        score = model.module.heads[1](guest((large - 0.3) / 0.2))[:, 0]
        torch.testing.assert_close(found[:, 3], score - 1.0, rtol=1e-4, atol=1e-5)


def test_colours_are_made_and_taken_away() -> None:
    gray = {"shape": [1, 8, 8], "mean": [0.5], "std": [0.5]}
    colour = {"shape": [3, 4, 4], "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 4.0]}
    pixels = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(colour[name])[:, None, None] for name in ("mean", "std"))
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    wanted = (F.interpolate(luma, (8, 8), mode="bilinear", align_corners=False) - 0.5) / 0.5
    torch.testing.assert_close(Adapter(colour, gray)((pixels - mean) / std), wanted)
    back = Adapter({**gray, "shape": [1, 4, 4]}, colour)((luma - 0.5) / 0.5)
    torch.testing.assert_close(back, (luma.expand(-1, 3, -1, -1) - mean) / std)


def test_a_composed_network_is_stored_and_cut_like_any_other(tmp_path: Path) -> None:
    model = mixed()
    store.save(model, tmp_path / "stored")
    loaded = store.load(tmp_path / "stored")
    x = torch.randn(4, *model.input.shape)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert loaded.support.level == "full"
    keep = sample(loaded.index, 0.3)
    assert not keep.all()
    small, _ = shrink(loaded, keep)
    with torch.no_grad(), gate(loaded.module, loaded.index, keep.float()):
        assert relative(small(x), loaded(x)) <= 1e-5


def test_composed_networks_can_be_composed_again_and_stored(tmp_path: Path) -> None:
    inner = mixed()
    outer = compose([Member(inner), Member(digits())], inner.input, [*"abcdefg"], torch.eye(7), torch.zeros(7))
    store.save(outer, tmp_path / "stored")
    x = torch.randn(4, *inner.input.shape)
    with torch.no_grad():
        assert torch.equal(store.load(tmp_path / "stored")(x), outer(x))
        assert torch.allclose(outer(x)[:, :4], inner(x), atol=1e-6)


def test_a_module_alone_says_its_class_or_another() -> None:
    model = digits()
    part = replace(parts_of(model)[1], figures={"threshold": 0.3})
    made, kept = alone(model, part)
    x = torch.randn(6, *model.input.shape)
    head = Head(3)
    head.load_state_dict(dict(part.head))
    with torch.no_grad():
        score = head(cut_out(model, part)(x))[:, 0]
        torch.testing.assert_close(made(x), torch.stack([score - 0.3, torch.zeros(6)], dim=1))
    assert made.classes == (part.name, "another")
    assert sorted(kept[kept >= 0].tolist()) == (part.keep | model.index.fixed).nonzero()[:, 0].tolist()
