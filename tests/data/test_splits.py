"""Splits: equal content together, every stratum in proportion, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from surgery.data.splits import SHARES, quintiles, split, spread


def contents(count: int) -> np.ndarray:
    digests = [hashlib.blake2b(str(i).encode(), digest_size=16).digest() for i in range(count)]
    return np.array(digests, dtype="S16")


def counts(roles: np.ndarray) -> tuple[int, int, int]:
    return tuple(int((roles == role).sum()) for role in ("train", "val", "test"))


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (10, (7, 1, 2)), (20, (14, 3, 3)), (1000, (700, 150, 150))],
)
def test_shares_of_one_stratum(n: int, expected: tuple[int, int, int]) -> None:
    assert counts(split(contents(n), np.zeros(n, np.int64), SHARES)) == expected


def test_every_stratum_is_split_in_proportion() -> None:
    strata = np.repeat([0, 1, 2], [100, 40, 20])
    roles = split(contents(160), strata, SHARES)
    assert [counts(roles[strata == stratum]) for stratum in range(3)] == [(70, 15, 15), (28, 6, 6), (14, 3, 3)]


def test_equal_content_stays_together_across_labels() -> None:
    content = contents(50)[np.random.default_rng(0).integers(0, 50, 400)]
    strata = np.random.default_rng(1).integers(0, 3, 400)
    roles = split(content, strata, SHARES)
    for one in np.unique(content):
        assert len(set(roles[content == one].tolist())) == 1
    assert min(counts(roles)) > 20


def test_content_that_fills_a_stratum_is_trained_on() -> None:
    content = np.concatenate([np.repeat(contents(1), 90), contents(11)[1:]])
    assert counts(split(content, np.zeros(100, np.int64), SHARES)) == (90, 0, 10)


def test_order_does_not_matter_but_the_seed_does() -> None:
    content, strata = contents(200), np.zeros(200, np.int64)
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(split(content, strata, SHARES)[order], split(content[order], strata, SHARES))
    assert not np.array_equal(split(content, strata, SHARES, 1), split(content, strata, SHARES, 2))


def test_the_split_is_the_same_on_every_machine() -> None:
    roles = split(contents(12), np.zeros(12, np.int64), SHARES, seed=7)
    assert "".join(role[1] for role in roles) == "rarrrrerrear"


def test_only_the_asked_shares_are_dealt() -> None:
    assert counts(split(contents(100), np.zeros(100, np.int64), {"val": 0.15})) == (85, 15, 0)


def test_quintiles_are_fifths() -> None:
    assert np.bincount(quintiles(np.random.default_rng(0).normal(size=500))).tolist() == [100] * 5
    assert set(quintiles(np.ones(10))) == {4}


def test_spread_in_proportion_keeps_every_stratum() -> None:
    strata = np.repeat([0, 1, 2], [900, 99, 1])
    chosen = spread(strata, 100, 0)
    assert np.bincount(strata[chosen]).tolist() == [89, 10, 1]
    assert np.array_equal(chosen, np.sort(chosen))


def test_spread_evenly_takes_turns() -> None:
    strata = np.repeat([0, 1, 2], [900, 99, 1])
    assert strata[spread(strata, 7, 0, even=True)].tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert len(spread(np.zeros(0, np.int64), 5, 0)) == 0
