"""Weights randomised by a degree."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from surgery.network.model import Model


def damaged(model: Model, degree: float, seed: int) -> Model:
    """A copy whose weights (tensors of two axes or more) each got noise of `degree` times their tensor's spread."""
    module = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=degree * float(parameter.std()))
    return replace(model, module=module)
