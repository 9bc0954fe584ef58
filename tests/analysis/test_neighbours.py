from __future__ import annotations

import numpy as np
import pytest

from surgery.analysis.neighbours import correlations, nearest, standardised

ROWS = np.random.default_rng(0).normal(3.0, 2.0, (6, 40)).astype(np.float32)


def test_likeness_is_pearsons_correlation_whatever_the_scale() -> None:
    rows = ROWS.copy()
    rows[4] = 100 * rows[1] - 7
    rows[5] = -rows[1]
    wanted = np.corrcoef(rows.astype(np.float64))[1]
    found = dict(nearest(standardised(rows), 1, count=9))
    assert next(iter(found)) == 4
    assert list(found)[-1] == 5
    assert 1 not in found
    assert [found[k] for k in (0, 2, 3, 4, 5)] == pytest.approx(wanted[[0, 2, 3, 4, 5]].tolist(), abs=1e-5)


def test_a_constant_row_is_like_nobody() -> None:
    rows = ROWS.copy()
    rows[2] = 0.31
    assert (standardised(rows)[2] == 0).all()
    assert all(likeness == 0 for _, likeness in nearest(standardised(rows), 2))
    assert nearest(standardised(rows[:1]), 0) == []


def test_features_go_with_a_row_or_against_it() -> None:
    features = np.stack([ROWS[0], -ROWS[0], np.full(40, 2.0), ROWS[1]], 1).astype(np.float32)
    found = correlations(features, ROWS[0])
    assert found[:3].tolist() == pytest.approx([1.0, -1.0, 0.0], abs=1e-5)
    assert found[3] == pytest.approx(np.corrcoef(ROWS[0], ROWS[1])[0, 1], abs=1e-5)
