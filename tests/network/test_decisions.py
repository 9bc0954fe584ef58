"""Networks that decide by values: what is compared, looked up or branched on is never cut by luck."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.network import passes
from surgery.network.certificate import gated, relative, sample
from surgery.network.index import NeuronIndex
from surgery.network.index_file import read_index, write_index
from surgery.network.slicing import cut
from surgery.network.trace import trace

Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """A layer `a` of 8, and after it whatever `forward` makes of two layers `b` and `r` of 6 and two heads."""

    def __init__(self, forward: Forward, *unused: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = forward
        self.a, self.b, self.r = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(8, 6)
        self.c, self.d = nn.Linear(6, 5), nn.Linear(6, 5)
        self.experts = nn.ModuleList(nn.Linear(8, 5) for _ in range(6))
        self.register_buffer("table", torch.randn(7, 5))
        for name in unused:
            delattr(self, name)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, torch.relu(self.a(x)))


def numbered(forward: Forward, *unused: str) -> tuple[Net, NeuronIndex]:
    net = Net(forward, *unused).eval()
    index, support = trace(net, torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert support.level == "full", support.reason
    assert index is not None
    return net, index


def reason(index: NeuronIndex, layer: str) -> str:
    """Why the first neuron of a layer stays; "" when none of the layer stays."""
    rows = index.layers[layer].rows
    assert index.fixed[rows].all() or not index.fixed[rows].any(), "a layer stays as a whole or not at all"
    return index.stays(int(index.group[rows[0]]))


def holds(net: Net, index: NeuronIndex) -> bool:
    """Whether cuts of several sizes equal the gated network on several inputs, in float64."""
    net = net.double()
    for seed in range(6):
        keep = sample(index, 0.2 * seed, seed, least=1)
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            if relative(cut(net, index, keep)(x), gated(net, x, index, keep)) > 1e-9:
                return False
    return True


def chosen_expert(net: Net, h: Tensor) -> Tensor:
    return torch.stack([expert(h) for expert in net.experts], 1)[torch.arange(len(h)), net.r(h).argmax(-1)]


def masked_experts(net: Net, h: Tensor) -> Tensor:
    best = net.r(h).argmax(-1)
    return sum((best == i).float()[:, None] * expert(h) for i, expert in enumerate(net.experts))  # type: ignore[return-value]


def sparse_experts(net: Net, h: Tensor) -> Tensor:
    out, best = torch.zeros(len(h), 5, dtype=h.dtype), net.r(h).argmax(-1)
    for number, expert in enumerate(net.experts):
        rows = (best == number).nonzero()[:, 0]
        if len(rows):
            out[rows] = expert(h[rows])
    return out


def summed_places(net: Net, h: Tensor) -> Tensor:
    return net.table.to(h)[(net.r(h) > 0).long().sum(1)] + net.c(net.b(h))


LOST = {
    "a chosen expert": (chosen_expert, "argmax runs across neurons"),
    "masked experts": (masked_experts, "argmax runs across neurons"),
    "experts that see their own samples": (sparse_experts, "argmax runs across neurons"),
    "one-hot routing": (
        lambda net, h: net.d(F.one_hot(net.r(h).argmax(-1), 6).to(h)) + net.c(net.b(h)),
        "argmax runs across neurons",
    ),
    "any": (lambda net, h: net.c(net.b(h)) * (net.r(h) > 0).any(1, keepdim=True), "any runs across neurons"),
    "all": (lambda net, h: net.c(net.b(h)) * (net.r(h) > -1).all(1, keepdim=True), "all runs across neurons"),
    "places of max": (lambda net, h: net.table.to(h)[net.r(h).max(1)[1]] + net.c(net.b(h)), "max runs across neurons"),
    "places of topk": (
        lambda net, h: net.table.to(h)[net.r(h).topk(1, 1)[1][:, 0]] + net.c(net.b(h)),
        "no rule for topk",
    ),
    "argsort": (lambda net, h: net.c(net.b(h)) * net.r(h).argsort(1)[:, :1], "no rule for argsort"),
    "a look-up by a count": (summed_places, "sum runs across neurons"),
    "an embedding": (
        lambda net, h: F.embedding((net.r(h) > 0).long(), net.table.to(h)).sum(1) + net.c(net.b(h)),
        "no rule for embedding",
    ),
    "buckets": (
        lambda net, h: net.c(net.b(h)) + torch.bucketize(net.r(h), torch.linspace(-1, 1, 5).to(h)).sum(1, True),
        "no rule for bucketize",
    ),
    "a Python number": (lambda net, h: net.c(net.b(h)) * net.r(h)[0].tolist()[0], "tolist turns values"),
    "a new tensor": (lambda net, h: net.c(net.b(h)) * torch.full((5,), net.r(h)[0, 0]), "full copies values out"),
    "numpy": (
        lambda net, h: net.table.to(h)[torch.from_numpy(net.r(h).numpy().argmax(1))] + net.c(net.b(h)),
        "numpy turns values",
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_neurons_that_are_only_compared_or_looked_up_stay_with_the_reason(name: str) -> None:
    forward, words = LOST[name]
    net, index = numbered(forward)
    assert reason(index, "r").startswith(f"not measurable: {words}")
    assert holds(net, index)


def hidden_view(net: Net, h: Tensor) -> Tensor:
    room = torch.zeros(len(h), 6, dtype=h.dtype)
    room[:, :6].add_(net.b(h))
    return net.c(room)


def test_what_is_written_into_a_view_is_not_lost_from_sight() -> None:
    _, index = numbered(hidden_view)
    assert reason(index, "b") == "not measurable: values are written in through a view"


KEPT: dict[str, Forward] = {
    "sign": lambda net, h: net.c(torch.sign(net.b(h))),
    "a step": lambda net, h: net.c((net.b(h) > 0).to(h)),
    "a hard mask": lambda net, h: net.c(net.b(h) * (net.r(h) > 0)),
    "relu by hand": lambda net, h: net.c(net.b(h) * (net.b(h) > 0)),
    "leaky relu by where": lambda net, h: net.c(torch.where(net.b(h) > 0, net.b(h), 0.1 * net.b(h))),
    "where with numbers": lambda net, h: net.c(torch.where(net.b(h) > 0, 1.0, -1.0).to(h)),
    "a filled mask": lambda net, h: net.c(net.b(h).masked_fill(net.b(h) < 0, 0.3)),
    "a place within each neuron": lambda net, h: net.c(torch.stack([net.b(h), 1 - net.b(h)], -1).argmax(-1).to(h)),
    "any within each neuron": lambda net, h: net.c((torch.stack([net.b(h), net.b(h) - 0.5], -1) > 0).any(-1).to(h)),
    "whole numbers": lambda net, h: net.c(net.b(h).mul(4).int().to(h)),
    "a flip": lambda net, h: net.c(net.b(h).flip(1)),
}


@pytest.mark.parametrize("name", KEPT)
def test_masks_that_belong_to_one_neuron_each_can_be_cut_exactly(name: str) -> None:
    net, index = numbered(KEPT[name])
    assert reason(index, "b") == ""
    assert holds(net, index)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda net, h: net.c(net.b(h)[:, [2, 0, 1, 3, 5, 4]]), "getitem takes neurons by position"),
        (lambda net, h: net.c(net.b(h).roll(1, 1)), "roll moves neurons by position"),
        (lambda net, h: net.c(net.b(h) / net.b(h).shape[1] ** 0.5), "div (step 5) gives other values after a cut"),
    ],
)
def test_places_and_counts_of_neurons_fix_one_layer_not_the_network(forward: Forward, words: str) -> None:
    net, index = numbered(forward)
    assert words in reason(index, "b")
    assert reason(index, "a") == ""
    assert holds(net, index)


def hidden(net: Net, h: Tensor) -> Tensor:
    """What torch functions do not show: the values leave by their address."""
    y = net.r(h)
    with torch._C.DisableTorchFunction():
        best = y.argmax(1)
    return net.table.to(h)[best] + net.c(net.b(h))


def test_a_use_that_the_trace_cannot_see_is_found_by_noise_and_located() -> None:
    net, index = numbered(hidden)
    assert reason(index, "r") == "not measurable: their values reach the output where the trace cannot follow"
    assert reason(index, "b") == ""
    assert holds(net, index)


def untaken(net: Net, h: Tensor) -> Tensor:
    return net.c(net.b(h)) if h.sum() > 1e6 else net.d(net.r(h))


def test_a_decision_is_also_taken_the_other_way() -> None:
    net, index = numbered(untaken, "experts")
    assert reason(index, "a") == "not measurable: sum runs across neurons"
    assert set(index.layers) == {"a", "b", "c", "d", "r"}
    keep = index.close(~torch.isin(torch.arange(index.n), index.layers["b"].rows[:3]))
    assert cut(net, index, keep)(torch.full((2, 4), 1e9)).shape == (2, 5), "the branch that no example took"


def unreached(net: Net, h: Tensor) -> Tensor:
    y = net.b(h)
    return net.c(y) if y.norm(dim=1).max().item() < 1e6 else net.d(y)


def test_a_module_that_no_example_reached_fixes_what_could_feed_it() -> None:
    _, index = numbered(unreached, "experts", "r")
    assert reason(index, "b") != ""
    _, index = numbered(
        lambda net, h: net.c(net.b(h)) if h[:, 0].tolist()[0] < 1e6 else net.d(net.b(h)), "experts", "r"
    )
    assert reason(index, "b") == "d.weight was not reached on any example and may read them"


def test_a_module_that_never_runs_fixes_nothing_where_no_value_decides() -> None:
    _, index = numbered(lambda net, h: net.c(net.b(h)) if not net.training else net.d(net.b(h)), "experts", "r")
    assert reason(index, "b") == ""


def test_random_outputs_are_called_random() -> None:
    net = Net(lambda net, h: net.c(F.dropout(net.b(h), 0.5, True))).eval()
    _, support = trace(net, torch.randn(3, 4))
    assert support.level == "gate"
    assert support.reason == "random in eval mode: dropout (step 3) gives other values on each run"


def test_runs_are_few_without_decisions_and_go_both_ways_with_them() -> None:
    x = torch.randn(3, 4)
    assert passes.passes(Net(KEPT["sign"]), x) == ([passes.Pass(x)], False)
    ways, depends = passes.passes(Net(untaken), x)
    assert depends
    first = ways[0].answers[0]
    assert [way.answers for way in ways[:2]] == [(first,), (not first,)]
    assert sorted({len(way.x) for way in ways}) == [1, 2, 3, 8]


def test_reasons_survive_the_disk_and_a_cut(tmp_path: Path) -> None:
    _, index = numbered(*LOST["any"][:1])
    write_index(index, tmp_path / "index.safetensors")
    again = read_index(tmp_path / "index.safetensors")
    assert again.unmeasured == index.unmeasured != {}
    small = index.restrict(sample(index, 0.5))
    assert sorted(set(small.unmeasured.values())) == ["any runs across neurons"]
