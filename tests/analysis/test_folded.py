"""Folding batch normalisation for reading: equal where it is done, left alone where somebody else reads the tensor."""

import copy

import torch
from torch import Tensor, nn

from surgery.analysis.folded import folded
from surgery.analysis.watch import inputs
from surgery.network.samples import DigitsCNN
from surgery.network.trace import trace


def moved(module: nn.Module) -> nn.Module:
    """The same network in eval mode with statistics that do something."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, -1.0, 1.0)
    return module.eval()


class TwoReaders(nn.Module):
    """A convolution whose raw output is normalised and also added as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.last, self.last_norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        raw = self.conv(x)
        both = self.norm(raw).relu() + raw
        result: Tensor = self.head(self.last_norm(self.last(both)).relu().mean((2, 3)))
        return result


def test_the_copy_gives_every_layer_the_same_and_leaves_the_original_alone() -> None:
    module = moved(DigitsCNN((4, 6, 6)))
    index, _ = trace(module, torch.zeros(2, 1, 8, 8), verify=False)
    before = copy.deepcopy(module.state_dict())
    x = torch.randn(2, 1, 8, 8)
    light = folded(module, index, x)
    assert light is not module
    assert not any(isinstance(part, nn.BatchNorm2d) for part in light.modules())
    own, other = inputs(module, index, x), inputs(light, index, x)
    assert own.keys() == other.keys() == index.layers.keys()
    for name, reads in own.items():
        for a, b in zip(reads, other[name], strict=True):
            assert torch.allclose(a, b, atol=1e-5), name
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_tensor_that_two_read_is_left_as_it_is() -> None:
    module = moved(TwoReaders())
    index, _ = trace(module, torch.zeros(2, 1, 8, 8), verify=False)
    assert folded(module, index, torch.randn(2, 1, 8, 8)) is module


def test_a_network_without_normalisation_is_not_copied() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)).eval()
    index, _ = trace(module, torch.zeros(2, 1, 8, 8), verify=False)
    assert folded(module, index, torch.randn(2, 1, 8, 8)) is module
