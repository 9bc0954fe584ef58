"""Whether a changed network still says what it said, without labels: on every sample, on average, in every class.

How far it may go is read off the network itself: how often it changes its mind when the input changes so little that a
person sees no difference. A network that is sure must stay so, one that wavers may waver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from surgery.edit.evaluate import placed
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids

FEW = 20  # samples of a class below which its own agreement is not judged
NOISE = 2 / 255  # of the 0–1 scale: standard deviation of a small change of a picture
WAVER = 0.02  # of a feature's spread: that of a row


@dataclass(frozen=True)
class Agreement:
    """Of `samples` samples: the share with the same answer, KL divergence in nats, the class that suffers most."""

    share: float
    kl: float
    worst: float
    worst_class: str
    samples: int


@dataclass(frozen=True)
class Limits:
    """What a change may cost: the least agreement overall and in a class, and the largest divergence (nats)."""

    share: float = 0.97
    worst: float = 0.9
    kl: float = 0.1

    def failed(self, found: Agreement) -> str:
        """Which condition is not met, and by how much; "" = none."""
        if found.share < self.share:
            return (
                f"agreement {found.share:.1%} is {100 * (self.share - found.share):.1f} points below {self.share:.1%}"
            )
        if found.kl > self.kl:
            return f"divergence {found.kl:.3f} nats is {found.kl - self.kl:.3f} above {self.kl:.3f}"
        if found.worst < self.worst:
            return (
                f"agreement of class {found.worst_class} {found.worst:.1%} is "
                f"{100 * (self.worst - found.worst):.1f} points below {self.worst:.1%}"
            )
        return ""


def agreement(before: Tensor, after: Tensor, classes: tuple[str, ...]) -> Agreement:
    """Compare outputs float[n, C] with what they were; classes are those that the network named before.

    An answer that is no number agrees with nothing, and makes the divergence infinite.
    """
    sound = torch.isfinite(after).all(1)
    named, same = before.argmax(1), sound & (before.argmax(1) == after.argmax(1))
    counts = torch.bincount(named, minlength=len(classes))
    hits = torch.bincount(named[same], minlength=len(classes))
    shares = (hits / counts.clamp(min=1)).where(counts >= FEW, torch.inf)
    place = int(shares.argmin())
    judged = bool(torch.isfinite(shares[place]))
    kl = torch.tensor(torch.inf)
    if bool(sound.all()):
        old, new = before.double().log_softmax(1), after.double().log_softmax(1)
        kl = F.kl_div(new, old, reduction="batchmean", log_target=True)
    return Agreement(
        float(same.double().mean()),
        max(float(kl), 0.0),
        float(shares[place]) if judged else float(same.double().mean()),
        classes[place] if judged else "",
        len(before),
    )


def own_agreement(model: Model, data: Dataset, ids: Ids, outputs: Tensor, ctx: Context) -> float:
    """The share of samples (0–1) on which a network keeps its answer when its input changes slightly.

    Pictures get noise of two of 255 levels and are shifted by one pixel in turn; rows get noise of 2 % of a feature's
    spread over these samples. outputs: float[n, C], what it says of them as they are.
    """
    generator = torch.Generator().manual_seed(ctx.seed)
    level = _noise(model, data, ids)
    same, start = 0, 0
    with placed(ctx.device, model.module), torch.inference_mode():
        for number, (x, _, _) in enumerate(ctx.track(data.batches(ids, model.input), "changing inputs slightly")):
            changed = x + level * torch.randn(x.shape, generator=generator)
            if model.input.kind == "image":
                changed = torch.roll(changed, (1, -1)[number % 2], dims=2 + number // 2 % 2)
            out = model(changed.to(ctx.device)).cpu()
            same += int((out.argmax(1) == outputs[start : start + len(x)].argmax(1)).sum())
            start += len(x)
    return same / max(start, 1)


def _noise(model: Model, data: Dataset, ids: Ids) -> Tensor:
    """The standard deviation of a small change, per channel or feature, as the model sees its input."""
    std = torch.tensor(model.input.std)
    if model.input.kind == "image":
        return NOISE / std[:, None, None]
    return WAVER * torch.from_numpy(np.asarray(data.raw(ids), dtype=np.float32)).std(0) / std


def limits_for(own: float, asked: Limits, least: float = 0.01) -> Limits:
    """The limits for a network that agrees with itself to the share `own`: it may lose what a slight change of the
    input costs it anyhow, at least `least` and at most what is asked.
    """
    return Limits(1 - min(1 - asked.share, max(1 - own, least)), asked.worst, asked.kl)
