from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.analysis.scan import scan
from surgery.analysis.watch import layouts, watch
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.network.index import Layer, NeuronIndex
from tests.pico import Functional, Residual, pico_model


class Tokens(nn.Module):
    """Sixteen patches as tokens, [b, t, c]; or, with `last`, folded the other way round, [t · b, c]."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.embed = nn.Conv2d(1, 5, 2, 2)
        self.mix = nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.embed(x)).flatten(2)  # [b, c, t]
        tokens = x.shape[2]
        if self.last:
            x = F.gelu(self.mix(x.permute(2, 0, 1).flatten(0, 1)))  # [t · b, c]
            return self.head(x.unflatten(0, (tokens, -1)).mean(0))
        return self.head(F.gelu(self.mix(x.transpose(1, 2))).mean(1))


class Coordinates(nn.Module):
    """A bias computed from a constant table by a small network, as in swin_v2: its input knows no samples."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.linspace(-1, 1, 10).reshape(5, 2))
        self.one = nn.Linear(2, 4)
        self.two = nn.Linear(4, 3)
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3)) + self.two(F.relu(self.one(self.table))).mean(0)


def hand_numbered(last: bool) -> NeuronIndex:
    """Tokens: ids 0–4 embed, 5–10 mix, 11–13 head."""
    embed, mix, head = torch.arange(5), torch.arange(5, 11), torch.arange(11, 14)
    layers = {
        "embed": Layer("embed", embed, torch.tensor([-1]), "conv"),
        "mix": Layer("mix", mix, embed),
        "head": Layer("head", head, mix),
    }
    return NeuronIndex(layers, {}, torch.arange(14), torch.arange(14) > 10, {11: "model output"})


@pytest.mark.parametrize("last", [False, True])
def test_tokens_are_sorted_by_sample(last: bool) -> None:
    module = Tokens(last).eval()
    index = hand_numbered(last)
    found = layouts(module, index, torch.randn(2, 1, 8, 8))
    assert found["mix"].order == ("last" if last else "first")
    x = torch.randn(3, 1, 8, 8)
    seen: dict[str, Tensor] = {}
    with torch.no_grad(), watch(module, index, lambda name, x, axis: seen.update({name: found[name].maps(x, axis, 3)})):
        module(x)
    with torch.no_grad():
        expected = F.relu(module.embed(x)).flatten(2)
    assert torch.allclose(seen["mix"], expected)
    assert seen["head"].shape == (3, 6, 1)


@pytest.mark.parametrize("last", [False, True])
def test_a_scan_of_tokens_averages_over_them(last: bool, pico_images: Dataset) -> None:
    model = pico_model(Tokens(last))
    found = scan(model, pico_images, Context(), batch=16)
    ids = pico_images.ids("train")
    x = torch.cat([x for x, _, _ in pico_images.batches(ids, model.input)])
    with torch.no_grad():
        maps = F.relu(model.module.embed(x)).flatten(2).numpy()
    assert np.allclose(found.means["mix"], maps.mean((0, 2)), atol=1e-5)
    best = int(maps[:, 0].mean(1).argmax())
    assert found.top_sample[0, 0] == ids[best]
    assert found.top_position[0, 0] == maps[best, 0].argmax()


def test_an_input_without_samples_is_the_same_for_all(pico_images: Dataset) -> None:
    model = pico_model(Coordinates())
    found = scan(model, pico_images, Context())
    module = model.module
    with torch.no_grad():
        hidden = F.relu(module.one(module.table)).mean(0)
    rows = model.index.layers["one"].rows
    assert layouts(module, model.index, torch.randn(2, 1, 8, 8))["two"].order == "shared"
    assert torch.allclose(found.mean[rows], hidden[:, None].expand(4, 3), atol=1e-6)
    assert torch.allclose(found.var[rows], torch.zeros(4, 3), atol=1e-9)


def test_layouts_know_functional_reads_repeats_and_shared_inputs() -> None:
    model = pico_model(Functional())
    found = layouts(model.module, model.index, torch.randn(2, 1, 8, 8))
    assert [name for name, layout in found.items() if layout.functional] == ["weight"]
    assert found["again"].calls == 2
    assert found["up"].same_as is None
    twins = pico_model(Twins())
    assert layouts(twins.module, twins.index, torch.randn(2, 1, 8, 8))["right"].same_as == "left"


class Twins(nn.Module):
    """Two convolutions that read the very same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.left = nn.Conv2d(4, 3, 3)
        self.right = nn.Conv2d(4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return (F.relu(self.left(x)) + self.right(x)).mean((2, 3))


def test_twins_receive_the_same_means(pico_images: Dataset) -> None:
    model = pico_model(Twins())
    found = scan(model, pico_images, Context())
    assert torch.equal(found.means["left"], found.means["right"])
    assert bool((found.means["left"] > 0).any())


class Changed(nn.Module):
    """The second reader sees the tensor after it was changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        first = self.left(x)
        x += 1
        return first + self.right(x)


def test_a_tensor_changed_in_place_is_not_the_same() -> None:
    model = pico_model(Changed(), (4,))
    assert layouts(model.module, model.index, torch.randn(2, 4))["right"].same_as is None


def test_a_layer_without_its_module_is_seen_through_the_mode() -> None:
    model = pico_model(Residual())
    names: list[str] = []
    with (
        torch.no_grad(),
        watch(
            model.module, model.index, lambda name, x, axis: names.append(f"{name}:{axis}"), functional={"one", "head"}
        ),
    ):
        model.module(torch.randn(2, 1, 8, 8))
    assert names == ["stem:1", "one:1", "two:1", "head:1"]
    assert not any(part._forward_pre_hooks for part in model.module.modules())
