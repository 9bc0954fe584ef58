"""Which call of a forward pass reads which layer: one function mode, for gating and for functional weights.

A *reader* is a linear, convolution or matmul whose weight is a parameter of the module. `Readers` shows each reader's
input before the call and its output after it, and may replace both; the model's own forward stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_ATEN = torch.ops.aten  # what graphs of torch.export call
_FUNCTIONS: dict[Any, int] = {F.conv1d: 2, F.conv2d: 3, F.conv3d: 4}
_AXES = {
    _ATEN.conv1d.default: 2,
    _ATEN.conv2d.default: 3,
    _ATEN.conv3d.default: 4,
    **_FUNCTIONS,
}  # from the channels on
CONVOLUTIONS = {*_AXES}
_AXES |= {F.conv_transpose1d: 2, F.conv_transpose2d: 3, F.conv_transpose3d: 4}
TRANSPOSED = {F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
MATMULS: set[Any] = {torch.matmul, torch.mm, Tensor.matmul, Tensor.__matmul__, Tensor.mm}
MATMULS |= {_ATEN.matmul.default, _ATEN.mm.default}
ADDED = {torch.addmm, Tensor.addmm, _ATEN.addmm.default}  # bias + x @ W
WEIGHTED = CONVOLUTIONS | TRANSPOSED | MATMULS | ADDED | {F.linear, _ATEN.linear.default}


def layer_name(parameter: str) -> str:
    """The name of the layer that a weight belongs to: "fc.weight" is layer "fc"; a bare weight is its own layer."""
    owner, _, leaf = parameter.rpartition(".")
    return owner if owner and leaf == "weight" else parameter


def weights(module: nn.Module) -> dict[int, str]:
    """id(parameter) -> name; a tied weight has its first name."""
    return {id(p): name for name, p in module.named_parameters()}


def channel_axis(func: Callable[..., Any], x: Tensor) -> int:
    """The axis of a reader's input along which its columns lie."""
    return x.dim() - _AXES.get(func, 1)


def operands(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Input and weight of a reader call, however they were passed."""
    if func in ADDED:
        return (args[1], args[2]) if len(args) > 2 else (None, None)
    x = args[0] if args else kwargs.get("input")
    weight = args[1] if len(args) > 1 else kwargs.get("weight", kwargs.get("other", kwargs.get("mat2")))
    return x, weight


class Readers(TorchFunctionMode):
    """Inside it, `before(layer, x, axis) -> x` and `after(layer, out, axis) -> out` see every reader call.

    `axis` is the channel axis. Modes are thread-local: enter it in the thread that runs the forward.
    """

    def __init__(
        self,
        module: nn.Module,
        before: Callable[[str, Tensor, int], Tensor],
        after: Callable[[str, Tensor, int], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.names = {number: layer_name(name) for number, name in weights(module).items()}
        self.before, self.after = before, after

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in WEIGHTED:
            return func(*args, **kwargs)
        x, weight = operands(func, args, kwargs)
        name = self.names.get(id(weight))
        if name is None:
            return func(*args, **kwargs)
        changed = self.before(name, x, channel_axis(func, x))
        if func in ADDED:
            args = (args[0], changed, *args[2:])
        elif args:
            args = (changed, *args[1:])
        else:
            kwargs = {**kwargs, "input": changed}
        out = func(*args, **kwargs)
        return out if self.after is None else self.after(name, out, channel_axis(func, out))
