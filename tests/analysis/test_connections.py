from __future__ import annotations

import pytest
import torch
from torch import nn

from surgery.analysis.connections import connections, tables
from surgery.network.trace import trace


def chain(*layers: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, object]:
    module = nn.Sequential(*layers).eval()
    index, _ = trace(module, torch.randn(1, *shape), verify=False)
    assert index is not None
    return module, index


def test_the_strongest_ends_come_first_with_sign_and_share() -> None:
    module, index = chain(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), shape=(2,))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -4.0], [0.0, 1.0]]))  # type: ignore[index,operator]
        module[2].weight.copy_(torch.tensor([[1.0, -3.0, 0.0], [2.0, 1.0, 5.0]]))  # type: ignore[index,operator]
    up, down = connections(module, index, 1)  # type: ignore[arg-type]
    (only,) = up
    assert (only.neuron, only.layer, only.weight, only.share) == (-1, "0", -5.0, 1.0)
    assert [(one.neuron, one.weight, one.share) for one in down] == [(3, -3.0, 0.75), (4, 1.0, 0.25)]
    up, _ = connections(module, index, 4)  # type: ignore[arg-type]
    assert [(one.neuron, one.weight) for one in up] == [(2, 5.0), (0, 2.0), (1, 1.0)]
    assert len(connections(module, index, 4, most=2)[0]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, bias=False),
        nn.Conv2d(4, 6, 3, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.ConvTranspose2d(4, 6, 3, bias=False),
        nn.ConvTranspose2d(4, 4, 3, bias=False),
        nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
    ],
)
def test_the_sum_of_a_kernel_is_what_a_constant_picture_shows(layer: nn.Module) -> None:
    """Every kind of convolution lays its weight out in its own way: compare with what it really does."""
    torch.manual_seed(0)
    module, index = chain(nn.Conv2d(1, 4, 1), layer, nn.Conv2d(layer.out_channels, 2, 1), shape=(1, 9, 9))  # type: ignore[call-overload]
    found = {one.name: (size, total) for one, size, total in tables(module, index)}  # type: ignore[arg-type]
    size, total = found["1"]
    for channel in range(4):
        x = torch.zeros(1, 4, 9, 9)
        x[:, channel] = 1.0
        centre = layer(x)[0, :, 4, 4]
        assert torch.allclose(centre, total[:, channel], atol=1e-5)
    assert bool((size >= total.abs() / 3 - 1e-6).all()), "a sum of nine is at most three times its root of squares"
