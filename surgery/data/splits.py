"""Who goes where: roles by a content hash, and small stratified samples.

Equal content always gets the same role, so nothing is both learnt from and tested on; the same content and seed give
the same roles on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgery.data.reading import SplitUse
from surgery.errors import DataError

Ints = NDArray[np.int64]
ROLES = ("train", "val", "preserve", "unlabelled", "new", "test")
NAMES: dict[str, SplitUse] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}  # what splits are called
IN_ORDER = ("test", "val", "train", "deal")  # contents seen in an earlier split are left out of a later one
MOST = 20  # splits of a file
SHARES = {"test": 0.15, "val": 0.15}  # of the samples without a role; the rest is train


@dataclass(frozen=True)
class SplitFound:
    """A split of a file: its samples, what becomes of it, and how many of its samples an earlier split has too.

    shared: None where it was not looked at. known: whether its name says what it is.
    """

    name: str
    count: int
    use: SplitUse
    shared: int | None = None
    known: bool = True


def uses(found: Iterable[str], said: Mapping[str, SplitUse]) -> dict[str, SplitUse]:
    """What becomes of each split of a file, by its name: what is said, else what its name says.

    Training samples are dealt where no validation samples come with the file: a part of them is set aside.

    Raises:
        DataError: a split's name says nothing, or a split that is spoken of is not there.
    """
    names = list(found)
    if strange := [name for name in said if name not in names]:
        raise DataError(
            f"The file has no split {strange[0]!r}; it has {', '.join(map(repr, names)) or 'none'}.",
            "Name one of its splits in --splits NAME=USE.",
        )
    result: dict[str, SplitUse] = {}
    for name in names:
        use = said.get(name) or NAMES.get(name)
        if use is None:
            raise DataError(
                f"Nothing says what becomes of {name!r} beside {', '.join(repr(o) for o in names if o != name)}.",
                f"Choose train, val, test, deal (split anew) or drop: --splits {name}=drop.",
            )
        result[name] = use
    if "val" not in result.values():
        return {name: "deal" if use == "train" else use for name, use in result.items()}
    return result


def in_order(given: Iterable[SplitUse]) -> tuple[str, ...]:
    """The roles that samples come in, those that an honest measurement needs first."""
    present = set(given)
    return tuple(role for role in IN_ORDER if role in present)


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
