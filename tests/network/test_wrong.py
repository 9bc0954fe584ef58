"""Random networks with fixed seeds, and what the independent hooks make of a network whose answer is known."""

import torch
from torch import nn

from benchmarks import wrong
from benchmarks.__main__ import judge


def test_nothing_is_silently_wrong_in_thirty_random_networks() -> None:
    found = wrong.measure(quick=True)
    judged = judge("wrong", found, quick=True)
    assert [row for row in judged if row["verdict"] != "holds"] == []
    assert found["first seed"] == 0


def test_hooks_zero_what_the_removed_neurons_feed() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)).double()
    x = torch.randn(8, 3, dtype=torch.float64)
    gone = torch.tensor([True, False, False, True])
    found = wrong.by_hooks(net, x, {"0": gone})
    assert torch.allclose(found, net[2](net[1](net[0](x)) * ~gone))
