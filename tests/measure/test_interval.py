from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from surgery.measure.interval import paired, resampled, share
from surgery.measure.quality import r2


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    lose, win, n, inside = 0.06, 0.02, 300, 0
    for _ in range(1_000):
        lost, won, _same = generator.multinomial(n, [lose, win, 1 - lose - win])
        low, high = paired(lost, won, n)
        inside += low <= win - lose <= high
    assert 0.93 <= inside / 1_000 <= 0.98


def test_no_change_is_not_certain_and_more_samples_make_it_surer() -> None:
    low, high = paired(0, 0, 100)
    assert low == pytest.approx(-high)
    assert 0.01 < high < 0.04
    assert paired(0, 0, 1_000)[1] < high
    assert paired(100, 0, 100) == (-1.0, pytest.approx(-0.94, abs=0.03))


def test_resampling_gives_about_the_spread_of_repeated_measurements() -> None:
    generator = np.random.default_rng(1)

    def change() -> tuple[float, tuple[float, float]]:
        truth = generator.normal(size=200)
        before, after = truth + generator.normal(size=200) * 0.3, truth + generator.normal(size=200) * 0.6
        return r2(after, truth) - r2(before, truth), resampled(r2, before, after, truth)

    found = [change() for _ in range(20)]
    spread = float(np.std([value for value, _ in found]))
    width = float(np.mean([high - low for _, (low, high) in found]))
    assert 0.5 < width / (4 * spread) < 2


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (97, 100), (500, 1_000)])
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int) -> None:
    wanted = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert share(hits, n) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_without_samples_a_share_may_be_anything() -> None:
    assert share(0, 0) == (0.0, 1.0)
