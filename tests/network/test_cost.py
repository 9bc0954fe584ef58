from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from surgery.network.cost import bytes_of, macs, parameters
from surgery.network.model import Architecture, InputSpec, Model, Support
from tests.patients import mlp
from tests.pico import Residual, pico_model


def model_of(module: nn.Module, shape: tuple[int, ...]) -> Model:
    spec = InputSpec("image" if len(shape) == 3 else "table", shape, (0.0,) * shape[0], (1.0,) * shape[0])
    architecture = Architecture("test/pico")
    return Model(module.eval(), architecture, spec, "classification", ("a", "b"), None, Support("inspect"))


class Tied(nn.Module):
    """A decoder that shares its encoder's weight, and a head written without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(6, 6, bias=False)
        self.two = nn.Linear(6, 6, bias=False)
        self.two.weight = self.one.weight
        self.bare = nn.Parameter(torch.randn(2, 6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.two(self.one(x)), self.bare)


def test_macs_equal_a_count_by_hand() -> None:
    model = pico_model(Residual())
    by_hand = 64 * 9 * (1 * 6 + 6 * 5 + 5 * 6) + 6 * 3
    assert macs(model) == by_hand
    assert macs(mlp((4, 8, 6, 3))) == 4 * 8 + 8 * 6 + 6 * 3


def test_groups_strides_and_transposed_convolutions() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), nn.ConvTranspose2d(8, 2, 2, stride=2))
    assert macs(model_of(net, (4, 8, 8))) == 16 * 8 * 9 + 16 * 8 * 2 * 4


def test_functional_weights_and_attention_count() -> None:
    assert macs(model_of(Tied(), (6,))) == 36 + 36 + 12
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    tokens = 5
    linear = tokens * (8 * 24 + 8 * 8 + 8 * 16 + 16 * 8)
    products = 2 * tokens * tokens * 8
    assert macs(model_of(attention, (tokens, 8))) == linear + products


def test_a_tied_weight_counts_once() -> None:
    model = model_of(Tied(), (6,))
    assert parameters(model) == 36 + 12
    apart = Tied()
    apart.two.weight = nn.Parameter(apart.one.weight.detach().clone())
    assert parameters(model_of(apart, (6,))) == 36 + 36 + 12
    assert bytes_of(model_of(apart, (6,))) > bytes_of(model) + 36 * 4


def test_bytes_are_those_of_a_safetensors_file() -> None:
    for model in (pico_model(Residual()), mlp()):
        state = {name: tensor.contiguous() for name, tensor in model.module.state_dict().items()}
        assert bytes_of(model) == len(save(state))
    half = replace(mlp(), module=mlp().module.half())
    assert bytes_of(half) == len(save(half.module.state_dict()))


def test_counting_leaves_no_trace() -> None:
    model = pico_model()
    before = torch.backends.mha.get_fastpath_enabled()
    once, again = macs(model), macs(model)
    assert once == again
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in model.module.modules())
