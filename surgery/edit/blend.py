"""Go a part of the way from one set of weights to another: what training has learnt, with less of what it forgot.

Wortsman et al., "Robust fine-tuning of zero-shot models" (arXiv 2109.01903): between a network and its fine-tuned self
the straight line often keeps most of the new and loses little of the old.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from surgery.network.model import Model


def blend(before: Model, after: Model, share: float) -> Model:
    """A model whose numbers lie `share` (0–1) of the way from `before` to `after`; equal ones stay bit for bit."""
    module = copy.deepcopy(after.module)
    old = before.module.state_dict()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                mixed = torch.lerp(old[name], tensor, share)
                tensor.copy_(torch.where(old[name] == tensor, tensor, mixed))
    return replace(after, module=module)
