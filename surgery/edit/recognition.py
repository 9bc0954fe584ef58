"""How well a score tells one class from all others: precision, recall and F1 above a threshold."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Recognition:
    """f1, precision, recall: 0–1, of the samples whose score is above `threshold`. low, high: the range of scores, and
    own_low, own_high: that of the class's own samples, what min-max calibration needs.
    """

    f1: float
    precision: float
    recall: float
    threshold: float
    low: float
    high: float
    own_low: float
    own_high: float

    def to_json(self) -> dict[str, float]:
        """Field by field."""
        return asdict(self)


def recognition(score: Tensor, own: Tensor, threshold: float | None = None) -> Recognition:
    """score: float[n]; own: bool[n], the samples of the class, at least one.

    threshold: above it a sample is taken for the class; None = where F1 is highest on these samples.
    """
    score = score.double().cpu()
    own = own.cpu()
    if threshold is None:
        threshold = best_threshold(score, own)
    found = score > threshold
    right = float((found & own).sum())
    precision, recall = right / max(float(found.sum()), 1.0), right / float(own.sum())
    ours = score[own]
    return Recognition(
        2 * precision * recall / max(precision + recall, 1e-12),
        precision,
        recall,
        threshold,
        float(score.min()),
        float(score.max()),
        float(ours.min()),
        float(ours.max()),
    )


def best_threshold(score: Tensor, own: Tensor) -> float:
    """Half-way between two neighbouring scores, where F1 = 2·right ÷ (found + own) is highest."""
    order = score.argsort(descending=True, stable=True)
    right = own[order].double().cumsum(0)
    found = torch.arange(1, len(score) + 1, dtype=torch.float64)
    f1 = 2 * right / (found + own.sum())
    ranked = score[order]
    last_of_equals = torch.cat([ranked[:-1] > ranked[1:], torch.tensor([True])])
    best = int(torch.where(last_of_equals, f1, -1.0).argmax())
    if best + 1 == len(score):
        return float(ranked[best]) - 1.0
    return float((ranked[best] + ranked[best + 1]) / 2)
