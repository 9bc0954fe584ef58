"""Where networks can be cut in two, and that both halves together are the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from surgery.errors import TraceError
from surgery.network.cuts import cuts_of
from surgery.network.fleet import Back, Front
from surgery.network.model import Architecture, InputSpec, Model, Support
from tests import pico
from tests.patients import digits, mlp


def wrapped(module: nn.Module, shape: tuple[int, ...] = (1, 8, 8)) -> Model:
    spec = InputSpec("image" if len(shape) == 3 else "table", shape, (0.0,) * shape[0], (1.0,) * shape[0])
    return Model(module.eval(), Architecture("pico"), spec, "classification", tuple("abc"), None, Support("inspect"))


class InPlace(nn.Module):
    """Activations that overwrite what they are given, and a tail that does so too."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.two = nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act2 = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.one(x))
        x = self.act2(self.norm(self.two(x)))
        return self.head(x.mean((2, 3)))


class Skip(nn.Module):
    """The input is read again at the end: nowhere in between is one tensor enough."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([x, self.second(torch.relu(self.first(x)))], 1))


class Tokens(nn.Module):
    """A learned token in front of patches, as vision transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class Short(nn.Module):
    """A residual block whose way around is an identity module: it gives the very tensor that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.short, self.body, self.head = nn.Linear(4, 5), nn.Identity(), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.short(x) + self.body(x))


class Again(nn.Module):
    """One activation module that is used everywhere, and a layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.one, self.same, self.head = nn.ReLU(), nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.one(x))
        return self.head(self.act(self.same(self.act(self.same(x)))))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (pico.Residual, (1, 8, 8)),
        (pico.Depthwise, (1, 8, 8)),
        (pico.Functional, (1, 8, 8)),
        (InPlace, (1, 8, 8)),
        (Tokens, (1, 8, 8)),
        (Again, (4,)),
        (Short, (4,)),
    ],
)
def test_both_halves_are_the_whole_at_every_cut(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = wrapped(make(), shape)
    state = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    x = torch.randn(5, *shape)
    with torch.no_grad():
        said = model(x)
        found = cuts_of(model)
        for cut in found:
            seen = Front(model.module, cut.name, cut.later)(x)
            assert seen.shape == (5, *cut.shape)
            again = Back(model.module, cut.name, cut.blanks)(seen, torch.full_like(x, torch.nan))
            assert torch.equal(model.answers(again), said), cut.name
        assert torch.equal(model(x), said), "the network itself is as it was"
    assert all(torch.equal(state[name], tensor) for name, tensor in model.module.state_dict().items())
    assert not any(part._forward_hooks for part in model.module.modules()), "and nothing is left on it"
    assert [cut.bytes for cut in found] == sorted(cut.bytes for cut in found)
    assert [cut.macs for cut in found] == sorted(cut.macs for cut in found)


def test_a_cut_knows_what_lies_before_it() -> None:
    model = digits()
    names = [cut.name for cut in cuts_of(model)]
    assert names == ["stem", "down", "block", "top"]
    for cut in cuts_of(model):
        back = Back(model.module, cut.name, cut.blanks)
        whole, left = (sum(t.nbytes for t in part.state_dict().values()) for part in (model.module, back))
        assert whole - left == cut.bytes
        assert cut.size == torch.Size(cut.shape).numel()


def test_skips_and_what_is_overwritten_are_no_cuts() -> None:
    assert [cut.name for cut in cuts_of(wrapped(InPlace()))] == ["act", "act2"], "one and norm are overwritten"
    assert "one" not in [cut.name for cut in cuts_of(wrapped(pico.Residual()))], "the skip around it is needed too"
    assert [cut.name for cut in cuts_of(wrapped(Tokens()))][-1].startswith("blocks.1")
    assert [cut.name for cut in cuts_of(wrapped(Short(), (4,)))] == ["stem"]
    assert all(cut.name != "act" for cut in cuts_of(wrapped(Again(), (4,)))), "it runs three times"


def test_a_network_without_a_cut_is_refused() -> None:
    with pytest.raises(TraceError, match="pico can be cut nowhere"):
        cuts_of(wrapped(Skip(), (4,)))


def test_inputs_have_no_cut_before_the_first_weight() -> None:
    first = cuts_of(replace(mlp(), index=None))[0]
    assert first.bytes > 0
    assert first.macs > 0
