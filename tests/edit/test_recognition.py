"""Precision, recall and F1 of one class against counting by hand, and the threshold of the highest F1."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import f1_score

from surgery.edit.recognition import best_threshold, recognition


def test_counts_above_the_threshold() -> None:
    score = torch.tensor([0.9, 0.8, 0.7, 0.2, 0.1])
    own = torch.tensor([True, False, True, True, False])
    found = recognition(score, own, 0.5)
    assert (found.precision, found.recall) == pytest.approx((2 / 3, 2 / 3))
    assert found.f1 == pytest.approx(2 / 3)
    assert (found.low, found.high, found.own_low, found.own_high) == pytest.approx((0.1, 0.9, 0.2, 0.9))


def test_nothing_above_the_threshold_is_an_f1_of_zero() -> None:
    found = recognition(torch.tensor([0.1, 0.2]), torch.tensor([True, False]), 0.5)
    assert (found.f1, found.precision, found.recall) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_higher_f1(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(0, 8, (60,), generator=generator).double()  # with many ties
    own = torch.rand(60, generator=generator) < 0.3
    best = f1_score(own, score > best_threshold(score, own))
    assert best == pytest.approx(max(f1_score(own, score > t - 0.5) for t in range(9)))
    assert recognition(score, own).f1 == pytest.approx(best)
