"""A copy of a network for reading only, with each batch normalisation folded into the convolution before it.

The pairs are found by running: a normalisation that receives the very tensor a convolution has just given. Whether
somebody else reads that tensor too cannot be seen so, and need not be: the copy is used only if it answers as the
original does and every layer of it receives the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from surgery.analysis.watch import inputs
from surgery.network.index import NeuronIndex
from surgery.network.outputs import alike

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TOLERANCE = 1e-4  # relative; rounding is about 1e-6, a wrong fold about 1


def folded(module: nn.Module, index: NeuronIndex, x: Tensor) -> nn.Module:
    """`module` itself where nothing can be folded, else a folded copy; `x`: a few samples to try both on."""
    with torch.no_grad():
        pairs = _pairs(module, x)
        if not pairs:
            return module
        result = copy.deepcopy(module)
        for conv, norm in pairs:
            both: tuple[Any, Any] = (result.get_submodule(conv), result.get_submodule(norm))
            result.set_submodule(conv, fuse_conv_bn_eval(*both))
            result.set_submodule(norm, nn.Identity())
        same = alike(module(x), result(x)) < _TOLERANCE
        return result if same and _alike(inputs(module, index, x), inputs(result, index, x)) else module


def _pairs(module: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """(convolution, normalisation): names of modules that run once each, one straight after the other."""
    given: dict[int, tuple[str, Tensor]] = {}  # kept alive, so that an address names one tensor
    calls: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []

    def after(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(part: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(part, _CONVOLUTIONS):
                given[id(output)] = (name, output)
            elif args and id(args[0]) in given and part.running_var is not None:
                pairs.append((given[id(args[0])][0], name))

        return hook

    wanted = [(name, part) for name, part in module.named_modules() if type(part) in _CONVOLUTIONS + _NORMS]
    handles = [part.register_forward_hook(after(name)) for name, part in wanted]
    try:
        module(x)
    finally:
        for handle in handles:
            handle.remove()
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]


def _alike(own: dict[str, list[Tensor]], other: dict[str, list[Tensor]]) -> bool:
    """Whether every layer receives the same in both."""
    if {name: len(reads) for name, reads in own.items()} != {name: len(reads) for name, reads in other.items()}:
        return False
    pairs = [(a, b) for name, reads in own.items() for a, b in zip(reads, other[name], strict=True)]
    return all(a.shape == b.shape and float((a - b).abs().max()) <= _TOLERANCE * float(a.abs().max()) for a, b in pairs)
