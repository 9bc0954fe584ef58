"""Data as it might come later: the same samples and labels, noisier, blurred, brighter, flatter. For trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from surgery.context import Context
from surgery.data.dataset import Dataset, Heading
from surgery.data.findings import Findings
from surgery.data.splits import ROLES
from surgery.data.writer import Writer
from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.rows import Ids

Block = NDArray[Any]
Change = Callable[[Block, float, np.random.Generator], Block]  # float64 0–1 [n, h, w, c], strength, chance
SIZE = 256  # samples at a time


def noise(x: Block, strength: float, chance: np.random.Generator) -> Block:
    """Gaussian noise with a standard deviation of 0.3 · strength of full scale."""
    return x + chance.normal(0.0, 0.3 * strength, x.shape)


def blur(x: Block, strength: float, _: np.random.Generator) -> Block:
    """A Gaussian blur of 0.08 · strength of the shorter side."""
    width = 0.08 * strength * min(x.shape[1:3])
    found: Block = gaussian_filter(x, (0.0, width, width, 0.0))
    return found


def brightness(x: Block, strength: float, _: np.random.Generator) -> Block:
    """Brighter by 0.5 · strength of full scale."""
    return x + 0.5 * strength


def contrast(x: Block, strength: float, _: np.random.Generator) -> Block:
    """Each picture drawn toward its own mean by 0.9 · strength."""
    mean = x.mean((1, 2, 3), keepdims=True)
    found: Block = mean + (x - mean) * (1 - 0.9 * strength)
    return found


KINDS: Mapping[str, Change] = {"noise": noise, "blur": blur, "brightness": brightness, "contrast": contrast}


def drifted(data: Dataset, ids: Ids, kind: str, strength: float, seed: int = 0) -> Block:
    """Samples as they would come: uint8[k, h, w, c], or float32[k, f] (noise in units of each feature's spread).

    Raises:
        DataError: there is no such kind, or not for tables; or strength is not within 0–1.
    """
    if data.kind == "text":
        raise DataError(f"{data.name!r} is a text: there is no drifted copy of it.", "Import a later text instead.")
    if kind not in KINDS or (data.kind == "table" and kind != "noise"):
        known = ", ".join(KINDS) if data.kind == "images" else "noise"
        raise DataError(f"There is no drift {kind!r} for {data.kind}.", f"Choose one of {known}.")
    if not 0 <= strength <= 1:
        raise DataError(f"A strength lies from 0 to 1, this one is {strength}.", "Give 0.3 for a mild drift.")
    raw = data.raw(ids)
    chance = np.random.default_rng([seed, *np.asarray(ids[:1]).tolist()])
    if data.kind == "table":
        rows: Block = (raw + chance.normal(0.0, 1.0, raw.shape) * strength * _spread(data)).astype(np.float32)
        return rows
    changed = KINDS[kind](raw / 255.0, strength, chance)
    pixels: Block = (changed.clip(0, 1) * 255).round().astype(np.uint8)
    return pixels


@lru_cache(maxsize=2)  # asked for every block
def _spread(data: Dataset) -> Block:
    return np.asarray(data.statistics()[1])


def make(data: Dataset, folder: Path, change: Callable[[Ids], Block], ctx: Context, *, name: str) -> Dataset:
    """Write a dataset with the labels and roles of `data`, whose samples come from `change`, block by block."""
    roles = {int(i): role for role in ROLES if role not in data.hidden for i in data.ids(role)}
    ids = np.array(sorted(roles), dtype=np.int64)
    heading = Heading(
        name=name,
        kind=data.kind,
        task=data.task,
        classes=data.classes,
        features=data.features,
        reading=data.reading,
    )
    starts = range(0, len(ids), SIZE)
    with Writer(folder, change(ids[:1]).shape[1:]) as writer:
        writer.reserve(len(ids))
        for start in ctx.track(starts, "changing samples"):
            own = ids[start : start + SIZE]
            targets = None if data.task == "unlabelled" else data.labels(own)
            sources = [data.source(int(i)) for i in own] if len(ids) <= SIZE else [f"sample {i}" for i in own]
            writer.add(change(own), targets, sources, role=[roles[int(i)] for i in own])
        return writer.finish(heading, Findings())
