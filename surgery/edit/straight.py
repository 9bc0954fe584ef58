"""Learn what is on and what is off: a step whose gradient passes straight through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, p: Tensor) -> Tensor:
        return (p > 0).to(p.dtype)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clamp(-1, 1)


def through(p: Tensor) -> Tensor:
    """1 where p > 0, else 0; backward gives p the incoming gradient clipped to [−1, 1], whatever p is.

    The straight-through rule of GradSplitter (arXiv 2311.04438): what is off still learns. A function of its own,
    because the gradient of `clamp` just on a bound differs between versions of torch.
    """
    out: Tensor = _Through.apply(p)
    return out
