"""Samples changed on purpose so that a model errs: the fast gradient sign method and its projected repetition.

FGSM: Goodfellow et al., arXiv 1412.6572. PGD: Madry et al., arXiv 1706.06083, with a random start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from surgery.context import Context
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids

Attack = Literal["fgsm", "pgd"]
STEPS = 7  # of PGD, each of 2.5 · budget ÷ STEPS


def attacked(
    model: Model, data: Dataset, ids: Ids, kind: Attack, budget: float, ctx: Context, batch: int = 128
) -> NDArray[np.uint8]:
    """uint8[k, h, w, c]: pictures of the model's size within `budget` (0–1, of full scale) of the originals.

    The loss that is driven up is cross-entropy with the label (with the model's own answer where there is none).
    """
    module = model.module.to(ctx.device)
    mean, std = (torch.tensor(v, device=ctx.device)[:, None, None] for v in (model.input.mean, model.input.std))
    generator = torch.Generator(ctx.device).manual_seed(ctx.seed)
    place = None if data.task == "unlabelled" else model.outputs_of(data.classes).to(ctx.device)
    found = []
    try:
        for x, y, _ in data.batches(ids, model.input, size=batch, device=ctx.device):
            clean = x * std + mean
            truth = model(x).argmax(1) if y is None or place is None else place[y]
            steps, size = (1, budget) if kind == "fgsm" else (STEPS, 2.5 * budget / STEPS)
            start = torch.rand(clean.shape, generator=generator, device=ctx.device) * 2 - 1
            now = clean if kind == "fgsm" else (clean + budget * start).clamp(0, 1)
            for _ in range(steps):
                now = now.detach().requires_grad_()
                loss = F.cross_entropy(model((now - mean) / std), truth)
                (gradient,) = torch.autograd.grad(loss, now)
                moved = now.detach() + size * gradient.sign()
                now = torch.minimum(torch.maximum(moved, clean - budget), clean + budget).clamp(0, 1)
            found.append((now.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    finally:
        module.to("cpu")
    return np.concatenate(found)
