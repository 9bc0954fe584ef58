"""DeepLIFT's rescale rule for whatever nonlinearity a network calls: the slope between sample and baseline.

The last sample of a batch is the baseline. Inside the mode every known elementwise nonlinearity is run through
`_Rescaled`, whose backward gives either the plain derivative or, while `lifting`, Δoutput ÷ Δinput (Shrikumar et al.,
"Learning Important Features Through Propagating Activation Differences", arXiv 1704.02685, sec. 3.5.1, rule
"rescale"). Everything else, max pooling and softmax among them, keeps its gradient: there we deviate from the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RELUS = {F.relu, torch.relu, Tensor.relu}
SMOOTH = {
    *(F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus),
    *(F.hardswish, F.hardsigmoid, F.sigmoid, torch.sigmoid, Tensor.sigmoid),
    *(F.tanh, torch.tanh, Tensor.tanh),
}
# How many arguments stand between the input and `inplace`, for those that have it.
INPLACE: dict[Any, int] = {
    **dict.fromkeys((F.relu, F.relu6, F.selu, F.silu, F.mish, F.hardswish, F.hardsigmoid), 0),
    **dict.fromkeys((F.leaky_relu, F.elu, F.celu), 1),
    F.hardtanh: 2,
}
_NEAR = 1e-7  # Δinput below this is none: the derivative is taken instead


class Rescaling(TorchFunctionMode):
    """Inside it, a backward pass follows the rescale rule while `lifting` is true, the derivative while it is false.

    samples: length of the batch axis, the baseline included. A tensor whose first axis is no multiple of it has no
    recognisable baseline and keeps its derivative.
    """

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.lifting = False

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        x = args[0] if args else options.get("input")
        if (func not in RELUS and func not in SMOOTH) or not isinstance(x, Tensor) or not x.requires_grad:
            return func(*args, **options)
        options.pop("input", None)
        options.pop("inplace", None)  # the input is needed for the difference
        rest = args[1 : 1 + INPLACE.get(func, len(args))]
        return _Rescaled.apply(x, self, func in RELUS, lambda value: func(value, *rest, **options))


class _Rescaled(torch.autograd.Function):
    """y = function(x), elementwise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mode: Rescaling, relu: bool, function: Callable[[Tensor], Tensor]) -> Tensor:
        y = function(x)
        ctx.save_for_backward(x, y)
        ctx.mode, ctx.relu, ctx.function = mode, relu, function
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (x, y), (g,) = ctx.saved_tensors, grads
        if not ctx.mode.lifting or len(x) % ctx.mode.samples:
            return _derivative(ctx, x, y, g), None, None, None
        dx, dy = (_difference(value, ctx.mode.samples) for value in (x, y))
        if ctx.relu:  # |Δy| ≤ |Δx|: only 0 ÷ 0 needs care; in place, since this is bound by memory
            slope = dy.div_(dx)
            return torch.where(slope.isnan(), torch.gt(y, 0, out=dx), slope).mul_(g), None, None, None
        near = dx.abs() < _NEAR
        slope = dy / torch.where(near, 1.0, dx)
        return torch.where(near, _derivative(ctx, x, y, g), g * slope), None, None, None


def _difference(value: Tensor, samples: int) -> Tensor:
    """Each sample's value minus the baseline's, where a sample covers one or more rows of the first axis."""
    each = value.unflatten(0, (samples, -1))
    found: Tensor = (each - each[-1:]).flatten(0, 1)
    return found


def _derivative(ctx: Any, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
    if ctx.relu:
        return g * (y > 0)
    with torch.enable_grad():
        own = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(ctx.function(own), own, g)
    slope: Tensor = found
    return slope
