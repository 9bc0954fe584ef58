"""Constructors that an operator registers: graphs and computed weights are imported, others refused with advice."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm

from surgery.edit.shrink import shrink
from surgery.errors import ModelError
from surgery.network import architectures, load, store
from surgery.network.architectures import Definition
from surgery.network.certificate import sample
from surgery.network.description import describe
from surgery.network.model import Architecture, InputSpec, Model

SPEC = InputSpec("image", (1, 8, 8), (0.0,), (1.0,))


class Net(nn.Module):
    """A convolution, its norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 3)

    def pooled(self, x: Tensor) -> Tensor:
        return torch.relu(self.n(self.a(x))).mean((2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pooled(x).flatten(1))


def imported(monkeypatch: pytest.MonkeyPatch, constructor: Callable[[], nn.Module]) -> Model:
    """Register a constructor, and import random weights of it."""
    definition = Definition(Path(__file__), "ARCHITECTURES", "own", constructor)
    monkeypatch.setitem(architectures._custom, "custom/own", definition)
    architecture = Architecture("custom/own")
    torch.manual_seed(0)
    tensors = {name: tensor.detach().clone() for name, tensor in architectures.build(architecture).state_dict().items()}
    return load.assemble(tensors, architecture, input=SPEC, classes=("a", "b", "c"))


def symbolic() -> nn.Module:
    return torch.fx.symbolic_trace(Net())


@functools.cache
def program() -> torch.export.ExportedProgram:
    free = ({0: torch.export.Dim.AUTO},)
    return torch.export.export(Net().eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=free)


def exported() -> nn.Module:
    return program().module()


def masked() -> nn.Module:
    net = Net()
    prune.l1_unstructured(net.b, "weight", 0.3)
    return net


def normed() -> nn.Module:
    net = Net()
    net.a = weight_norm(net.a)
    return net


def parametrized() -> nn.Module:
    net = Net()
    parametrizations.weight_norm(net.a)
    return net


@pytest.mark.filterwarnings("ignore:.*deprecated.*", "ignore:.*Deprecat.*")
@pytest.mark.parametrize("constructor", [symbolic, exported, masked, normed, parametrized])
def test_a_network_that_torch_makes_is_imported_kept_and_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, constructor: Callable[[], nn.Module]
) -> None:
    model = imported(monkeypatch, constructor)
    assert model.support.level == "full", model.support.reason
    assert model.index is not None
    x = torch.randn(2, 1, 8, 8)
    store.save(model, tmp_path / "model")
    assert torch.equal(store.load(tmp_path / "model")(x), model(x))
    if constructor in (symbolic, exported):
        small, _ = shrink(model, sample(model.index, 0.4, 1))
        assert not model.index.fixed[model.index.layers["a"].rows].any()
        store.save(small, tmp_path / "small")
        assert torch.equal(store.load(tmp_path / "small")(x), small(x))
    model.module.train()
    model.module(x).sum().backward()
    after = copy.deepcopy(model.module).eval()
    assert torch.equal(after(x), model.module.eval()(x))


def test_a_graph_of_other_code_is_not_what_the_architecture_constructs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = imported(monkeypatch, symbolic)

    class Other(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.pooled(x).flatten(1)) * 2

    definition = Definition(Path(__file__), "ARCHITECTURES", "own", lambda: torch.fx.symbolic_trace(Other()))
    monkeypatch.setitem(architectures._custom, "custom/own", definition)
    with pytest.raises(ModelError, match="are not those that the architecture constructs"):
        describe(model)


class Squeezed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pooled(x).squeeze())


class Pairs(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pooled(x).view(2, -1))


@pytest.mark.parametrize(("constructor", "step"), [(Squeezed, "squeeze"), (Pairs, "linear")])
def test_a_network_that_fails_on_one_sample_is_refused_with_the_step(
    monkeypatch: pytest.MonkeyPatch, constructor: type[nn.Module], step: str
) -> None:
    words = rf"^The network runs on 2 samples at once but not on 1: {step} \(step \d+\) goes wrong\."
    with pytest.raises(ModelError, match=words) as refused:
        imported(monkeypatch, constructor)
    assert "x.flatten(1) instead of x.squeeze()" in refused.value.fix


@pytest.mark.parametrize(("convert", "name"), [("half", "float16"), ("bfloat16", "bfloat16"), ("double", "float64")])
def test_a_network_of_another_precision_is_told_so(monkeypatch: pytest.MonkeyPatch, convert: str, name: str) -> None:
    words = rf"^The network does not run on float32 samples: it computes in {name} \("
    with pytest.raises(ModelError, match=words) as refused:
        imported(monkeypatch, lambda: getattr(Net(), convert)())
    assert refused.value.fix.startswith("Build it in float32: remove .half(), .bfloat16() or .double()")


class Inside(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pooled(x).flatten(1).half())


def test_a_forward_that_changes_the_precision_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="does not run on float32 samples: it computes in float16"):
        imported(monkeypatch, Inside)


class Lazy(Net):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.LazyLinear(3)


class Warm(Lazy):
    def __init__(self) -> None:
        super().__init__()
        self(torch.zeros(2, 1, 8, 8))


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_layer_is_refused_by_name_unless_the_constructor_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"^custom/own leaves the size of 'b\.weight' open until its first run") as no:
        imported(monkeypatch, Lazy)
    assert "nn.Linear(512, 10), not nn.LazyLinear(10)" in no.value.fix
    assert imported(monkeypatch, Warm).support.level == "full"
