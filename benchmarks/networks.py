"""Networks with random weights that still answer: for benchmarks that only ask whether a cut is exact.

As torchvision draws them, some answer with their last bias alone, scale a block by 1e-6 or let activations explode.
Here weights keep the size of what passes through them, and normalisation has seen a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from surgery.network.architectures import build
from surgery.network.model import Architecture

CLASSES = 10


def settled(module: nn.Module, x: Tensor) -> nn.Module:
    """Give a network weights that keep the size of activations, and its normalisation the statistics of `x`."""
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1 and parameter[0].numel() > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
        elif "scale" in name:
            nn.init.constant_(parameter, 0.5)
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the average over batches, not a moving one
        norm.reset_running_stats()
    module.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        module(x)
    return module.eval()


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network with ten classes and seeded weights, and one batch of its own input size."""
    torch.manual_seed(0)
    if name in ("digits_cnn", "surface_cnn"):
        side = {"digits_cnn": 8, "surface_cnn": 48}[name]
        return build(Architecture(f"sample/{name}")).eval(), torch.randn(2, 1, side, side)
    if name == "mlp":
        return build(Architecture("mlp", {"sizes": [30, 64, 32, 2]})).eval(), torch.randn(2, 30)
    side = 299 if name == "inception_v3" else 224
    module = build(Architecture(f"torchvision/{name}", {"num_classes": CLASSES}))
    x = torch.randn(4, 3, side, side)
    return settled(module, x), x[:2]
