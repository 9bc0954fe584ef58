"""Attention heads as neurons: the same numbers as torchvision's, removable one by one, also through the disk."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision.models as zoo
from torch import nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention

from surgery.edit.gate import gate
from surgery.edit.shrink import shrink
from surgery.network import architectures, store
from surgery.network.certificate import relative, sample
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from surgery.network.zoo import free_heads


class Grid(nn.Module):
    """MaxViT's attention between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 4, 4)
        self.attend = RelativePositionalMultiHeadAttention(24, 8, 16)
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2).unsqueeze(1)  # [b, 1, 16, 24]
        return self.head((x + self.attend(x)).mean((1, 2)))


def vit() -> nn.Module:
    return zoo.VisionTransformer(16, 4, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=20, num_classes=3)


def swin() -> nn.Module:
    return zoo.SwinTransformer([2, 2], 12, [2, 2], [3, 6], [4, 4], num_classes=3)


NETWORKS = {"vit": vit, "swin": swin, "grid": Grid}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """torchvision's module and ours, with the same well-scaled random weights."""
    torch.manual_seed(0)
    theirs = NETWORKS[name]().eval()
    for parameter in theirs.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    ours = copy.deepcopy(theirs)
    free_heads(ours)
    return theirs, ours


def model_of(module: nn.Module, name: str) -> Model:
    index, support = trace(module, torch.randn(2, 3, 16, 16))
    assert support.level == "full", support.reason
    spec = InputSpec("image", (3, 16, 16), (0.5,) * 3, (0.2,) * 3)
    return Model(module, Architecture(f"custom/{name}"), spec, "classification", ("a", "b", "c"), index, support)


@torch.no_grad()
@pytest.mark.parametrize(("name", "side"), [("vit", 16), ("swin", 16), ("swin", 14), ("grid", 16)])
def test_our_attention_computes_what_torchvision_computes(name: str, side: int) -> None:
    theirs, ours = pair(name)
    x = torch.randn(3, 3, side, side)
    assert relative(ours(x), theirs(x)) < 1e-6
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_head_is_one_group_and_shrinking_is_gating(name: str) -> None:
    model = model_of(pair(name)[1], name)
    index = model.index
    assert index is not None
    heads = [layer for layer in index.layers.values() if "qkv" in layer.name or "in_proj" in layer.name]
    assert heads
    for layer in heads:
        groups = index.group[layer.rows].unique()
        assert len(groups) in (3, 6)
        assert not index.fixed[layer.rows].any()
    x = torch.randn(3, 3, 16, 16)
    for seed in range(3):
        keep = sample(index, 0.4, seed)
        assert any(not keep[layer.rows].all() for layer in heads)
        small, _ = shrink(model, keep)
        with gate(model.module, index, keep.float()):
            masked = model(x)
        assert relative(small(x), masked) < 1e-5
        assert relative(masked, model(x)) > 1e-3, "the cut must matter"


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_some_heads_comes_back_from_the_disk(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def construct() -> nn.Module:
        module = NETWORKS[name]()
        free_heads(module)
        return module

    definition = architectures.Definition(Path(__file__), "NETWORKS", name, construct)
    monkeypatch.setitem(architectures._custom, f"custom/{name}", definition)
    model = model_of(pair(name)[1], name)
    assert model.index is not None
    small, _ = shrink(model, sample(model.index, 0.4, 1))
    store.save(small, tmp_path / "m")
    again = store.load(tmp_path / "m")
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(x), small(x))
    twice, _ = shrink(again, sample(again.index, 0.3, 2))  # type: ignore[arg-type]
    assert twice.index is not None and small.index is not None
    assert twice.index.n < small.index.n


def test_an_attention_between_two_sequences_keeps_its_own_way() -> None:
    """What is not self-attention, batch first, is left as torch computes it."""
    module = nn.TransformerDecoderLayer(12, 3, 16, batch_first=True).eval()
    wanted = module(torch.ones(1, 2, 12), torch.ones(1, 4, 12))
    free_heads(module)
    assert torch.allclose(module(torch.ones(1, 2, 12), torch.ones(1, 4, 12)), wanted, atol=1e-6)
