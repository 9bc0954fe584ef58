"""What a model costs wherever it runs: parameters, bytes on disk, multiply-accumulates of one sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from surgery.network.model import Model
from surgery.network.size import bytes_of, distinct

__all__ = ["bytes_of", "macs", "macs_per_layer", "parameters"]


def parameters(model: Model) -> int:
    """How many trainable numbers the model has; a tied tensor counts once."""
    return sum(tensor.numel() for _, tensor in distinct(model.module.named_parameters()))


def macs(model: Model) -> int:
    """Multiply-accumulates of one sample: convolutions, linear layers, matrix products and attention.

    Counted while running, so functional code counts too. Additions, normalisations and activations do not.
    """
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _plain_attention(), counter:
        model(model.input.example(1, str(device)))
    return int(counter.get_total_flops()) // 2  # a flop counter counts multiplication and addition apart


def macs_per_layer(model: Model) -> dict[str, int]:
    """Multiply-accumulates of one sample by module path; a module's own include those of the modules in it."""
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _plain_attention(), counter:
        model.module(model.input.example(1, str(device)))
    root = f"{type(model.module).__name__}."
    counts = counter.get_flop_counts()
    return {name.removeprefix(root): sum(own.values()) // 2 for name, own in counts.items() if name.startswith(root)}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as its parts: fused forms count as nothing."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
