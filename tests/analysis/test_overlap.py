"""Sets of neurons side by side: how much they share, which go together, which may go first."""

from __future__ import annotations

import numpy as np
import pytest

from surgery.analysis.overlap import alike, jaccard, leaving, shared_by

MEMBERS = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], dtype=bool)


def test_overlap_and_groups_of_classes() -> None:
    overlap = jaccard(MEMBERS)
    assert overlap[0, 1] == pytest.approx(2 / 3)
    assert overlap[0, 2] == 0.0
    assert overlap[3, 3] == 1.0, "two empty sets are equal"
    assert alike(MEMBERS) == (0, 0, 1, 2)
    assert alike(MEMBERS, tau=0.7) == (0, 1, 2, 3)
    assert alike(MEMBERS[:, :1]) == (0,)


def test_what_a_group_shares_is_the_mean_over_pairs() -> None:
    assert shared_by(MEMBERS, [0, 1]) == pytest.approx(2 / 3)
    assert shared_by(MEMBERS, [0, 1, 2]) == pytest.approx(2 / 9)
    assert shared_by(MEMBERS, [2]) == 1.0


def test_the_least_go_first_and_every_layer_keeps_its_best() -> None:
    importance = np.array([0.3, 0.1, 0.2, 0.05, 0.04])
    layers = ["a", "a", "a", "b", "b"]
    assert leaving(importance, layers, np.zeros(5, bool)).tolist() == [4, 1, 2]
    assert leaving(importance, layers, np.array([0, 1, 0, 0, 0], bool)).tolist() == [4, 2]
