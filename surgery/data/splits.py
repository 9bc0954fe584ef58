"""Who goes where: roles by a content hash, and small stratified samples.

Equal content always gets the same role, so nothing is both learnt from and tested on; the same content and seed give
the same roles on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
ROLES = ("train", "val", "preserve", "unlabelled", "new", "test")
SHARES = {"test": 0.15, "val": 0.15}  # of the samples without a role; the rest is train


def split(content: NDArray[Any], strata: Ints, shares: Mapping[str, float], seed: int = 0) -> NDArray[np.str_]:
    """One role per sample: `shares` of every stratum, the rest "train".

    content: bytes[n], equal for equal samples. strata: int64[n], a class or quintile; equal content that carries two
    of them is counted with its first. A stratum of one goes to train; from three samples on every role gets one.
    """
    unique, first, group, sizes = np.unique(content, return_index=True, return_inverse=True, return_counts=True)
    order = _mix(unique, seed)
    owner = strata[first]
    roles = np.full(len(unique), "train", dtype="U10")
    for stratum in np.unique(owner):
        members = np.flatnonzero(owner == stratum)
        members = members[np.argsort(order[members], kind="stable")]
        roles[members] = _deal(sizes[members], shares)
    return roles[group]


def _deal(sizes: Ints, shares: Mapping[str, float]) -> NDArray[np.str_]:
    """Roles for groups of equal samples, in order; a group larger than a whole quota stays in train."""
    total = int(sizes.sum())
    roles = np.full(len(sizes), "train", dtype="U10")
    free = np.ones(len(sizes), dtype=bool)
    given = 0
    for number, (role, bound) in enumerate(zip(shares, np.cumsum(list(shares.values())), strict=True)):
        if total < len(shares) + 1 - number:
            continue
        quota = max(1, round(total * bound) - given)
        given += quota
        fits = np.flatnonzero(free & (sizes <= quota))
        taken = fits[np.cumsum(sizes[fits]) <= quota]
        roles[taken], free[taken] = role, False
    return roles


def _mix(content: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """A number per content that looks random for every seed (the finaliser of SplitMix64)."""
    words = np.frombuffer(content.astype("S16").tobytes(), dtype="<u8").reshape(len(content), 2)
    value = words[:, 0] ^ words[:, 1] ^ np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(value ^ (value >> np.uint64(31)), dtype=np.uint64)


def quintiles(target: NDArray[Any]) -> Ints:
    """int64[n] in 0 … 4: which fifth of the targets each one lies in."""
    edges = np.quantile(target, [0.2, 0.4, 0.6, 0.8])
    return np.searchsorted(edges, target, side="right").astype(np.int64)


def spread(strata: Ints, limit: int, seed: int, *, even: bool = False) -> Ints:
    """Positions of at most `limit` samples over all strata: in proportion with at least one each, or evenly.

    The result is in rising order when in proportion, and alternates between strata when even.
    """
    shuffled = np.random.default_rng(seed).permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    _, start, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(start, sizes)
    turn = rank.astype(float) if even else rank / np.repeat(sizes, sizes)
    chosen = order[np.argsort(turn, kind="stable")][:limit]
    return chosen if even else np.sort(chosen)
