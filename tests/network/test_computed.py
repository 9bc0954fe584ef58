"""Networks in which one layer computes its weight, or one step cannot be followed: the rest stays editable."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
import torch.ao.nn.qat as qat
import torch.ao.quantization as quantization
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from surgery.network import rules, vocabulary
from surgery.network.certificate import gated, relative, sample
from surgery.network.index import NeuronIndex
from surgery.network.slicing import cut
from surgery.network.trace import trace


def fully_traced(module: nn.Module, x: Tensor) -> NeuronIndex:
    """The index of a network of level full, of which a cut was tried on another input."""
    index, support = trace(module.eval(), x)
    assert support.level == "full", support.reason
    assert index is not None
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    for seed in (1, 2, 3):
        keep = sample(index, 0.5, seed)
        with torch.no_grad():
            assert relative(cut(module, index, keep)(other), gated(module, other, index, keep)) < 1e-5
    return index


class Chain(nn.Module):
    """Three convolutions and a head; the second is the one that a case changes."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(1, 6, 3, padding=1), second, nn.Conv2d(8, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.head(F.relu(self.third(x)).mean((2, 3)))


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w / (w.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


class PerTensor(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = torch.fake_quantize_per_tensor_affine(self.weight, 0.01, 0, -128, 127)
        return self._conv_forward(x, weight, self.bias)


class Cloned(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.clone(), self.bias)


def convolution(kind: type[nn.Conv2d] = nn.Conv2d) -> nn.Conv2d:
    return kind(6, 8, 3, padding=1)


def quantization_aware() -> nn.Module:
    layer = convolution()
    layer.qconfig = quantization.get_default_qat_qconfig()
    layer = qat.Conv2d.from_float(layer)
    layer(torch.zeros(1, 6, 8, 8))  # sets the scale
    return layer.apply(quantization.disable_observer)


COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "weight norm": lambda: weight_norm(convolution()),
    "weight norm as a parametrization": lambda: parametrizations.weight_norm(convolution()),
    "spectral norm": lambda: spectral_norm(convolution()),
    "spectral norm as a parametrization": lambda: parametrizations.spectral_norm(convolution()),
    "structured mask": lambda: prune.ln_structured(convolution(), "weight", 0.3, 2, 0),
    "unstructured mask": lambda: prune.random_unstructured(convolution(), "weight", 0.3),
    "weight standardization": lambda: convolution(Standardized),
    "fake quantization": lambda: convolution(PerTensor),
    "quantization-aware training": quantization_aware,
    "clone": lambda: convolution(Cloned),
}


@pytest.mark.filterwarnings("ignore:.*(deprecated|reduce_range).*")
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_layer_that_computes_its_weight_fixes_its_inputs_alone(kind: str) -> None:
    torch.manual_seed(0)
    index = fully_traced(Chain(COMPUTED[kind]()), torch.randn(2, 1, 8, 8))
    assert not index.fixed[index.layers["third"].rows].any()
    first = index.layers["first"].rows
    assert index.fixed[first].all()
    assert set(index.why_fixed.values()) == {"the weight of second is computed on each run", "model output"}


class Between(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.function = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(self.function(F.relu(self.a(x))))))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean(axis)": lambda x: x - x.mean(axis=1, keepdim=True),
    "sum(axis, keepdims)": lambda x: x / (x.sum(axis=0, keepdims=True) + 1),
    "max(axis)": lambda x: x - torch.max(x, axis=1, keepdims=True)[0],
    "std(axis)": lambda x: x / (x.std(axis=1, keepdim=True) + 1),
    "logsumexp(axis)": lambda x: x - torch.logsumexp(x, axis=1, keepdim=True),
    "sum(a=x)": lambda x: x + torch.sum(a=x, axis=1, keepdims=True),
    "where of numbers": lambda x: x * torch.where(torch.arange(6) > 2, 1.0, -1.0),
    "rfft": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1), n=6, dim=1),
    "abs of fft": lambda x: torch.fft.fft(x).abs(),
    "complex": lambda x: torch.complex(x, x.roll(1, 1)).abs(),
    "view_as_complex": lambda x: torch.view_as_complex(x.reshape(len(x), -1, 2)).abs().repeat(1, 2),
    "complex64": lambda x: (x.to(torch.complex64) * 1j).imag,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_step_that_cannot_be_followed_is_not_blamed_on_the_network(name: str) -> None:
    torch.manual_seed(0)
    index = fully_traced(Between(FUNCTIONS[name]), torch.randn(2, 4))
    assert not index.fixed[index.layers["b"].rows].any()


def test_a_rule_that_fails_fixes_its_inputs_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(ledger: rules.Ledger, call: rules.Call) -> None:
        raise IndexError("a fault of ours")

    monkeypatch.setitem(vocabulary._table(), "tanh", broken)
    with caplog.at_level(logging.WARNING, "surgery.network.trace"):
        index = fully_traced(Between(torch.tanh), torch.randn(2, 4))
    assert index.fixed[index.layers["a"].rows].all()
    assert not index.fixed[index.layers["b"].rows].any()
    assert "The rule 'broken' failed at tanh (step 2); its inputs are fixed." in caplog.text
    assert "a fault of ours" in caplog.text


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.scale, self.b = nn.Linear(4, 6), nn.Parameter(torch.full((1,), 2.0)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)) * self.scale)


def test_a_parameter_of_one_value_couples_no_neurons() -> None:
    index = fully_traced(Scaled(), torch.randn(2, 4))
    assert int((~index.fixed).sum()) == 6
    assert index.group[:6].tolist() == list(range(6))


class Grouped(nn.Module):
    """Attention of four query heads that share `shared` heads of keys and values."""

    def __init__(self, shared: int) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 16), nn.Linear(8, 4 * shared), nn.Linear(8, 4 * shared)
        self.out, self.head = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), 5, 8)
        q, k, v = (layer(x).reshape(len(x), 5, -1, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.head(self.out(y.transpose(1, 2).reshape(len(x), 5, -1)).mean(1))


def test_grouped_query_attention_couples_the_query_heads_of_a_key_head() -> None:
    torch.manual_seed(0)
    index = fully_traced(Grouped(2), torch.randn(2, 40))
    groups = [index.group[index.layers[name].rows].unique().tolist() for name in "qkv"]
    assert groups[0] == groups[1] == groups[2]
    assert len(groups[0]) == 2
    assert not index.fixed[index.layers["q"].rows].any()


def test_multi_query_attention_has_no_head_to_spare() -> None:
    index = fully_traced(Grouped(1), torch.randn(2, 40))
    assert index.fixed[index.layers["q"].rows].all()
    assert not index.fixed[index.layers["out"].rows].any()


class Borrowed(nn.Module):
    """Uses a layer's weight, or a norm's scale, a second time without its module."""

    def __init__(self, use: str) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.use = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3), use

    def forward(self, x: Tensor) -> Tensor:
        penalty = self.a.weight.sum() if self.use == "weight" else self.norm.weight.sum()
        return self.b(self.norm(self.a(x))) + penalty


@pytest.mark.parametrize("use", ["weight", "scale"])
@pytest.mark.parametrize("largest", [2_000_000, 10])
def test_what_is_used_by_its_layer_and_bare_stays(monkeypatch: pytest.MonkeyPatch, use: str, largest: int) -> None:
    monkeypatch.setattr("surgery.network.trace.SLOTS", largest)
    assert fully_traced(Borrowed(use), torch.randn(2, 4)).fixed.all()


class Own(nn.Module):
    """A layer whose attributes have the names of torch's, and other meanings."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features, self.out_features, self.in_channels = 3, 7, 2
        self.weight = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * self.num_features + self.out_features / self.in_channels


def test_an_attribute_of_a_custom_layer_keeps_its_value() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), Own(6), nn.PReLU(6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    index = fully_traced(module, torch.randn(2, 4))
    assert not index.fixed[:6].any()
    keep = torch.ones(index.n, dtype=torch.bool)
    keep[:2] = False
    small = cut(module, index, keep)
    assert vars(small[1]) | {"_parameters": 0} == vars(module[1]) | {"_parameters": 0}
    sizes = small[0].out_features, small[2].num_parameters, small[3].num_features, small[4].in_features
    assert sizes == (4, 4, 4, 4)
