"""What single samples showed of each neuron, read without torch, row by row or as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from safetensors import safe_open

from surgery.analysis import neighbours
from surgery.ui.scans import Seen

FILE = "responses.safetensors"

Row = NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """A row of S samples for each of the P points of the map, in order of `seen.ids`.

    samples, groups: int64[S], their ids and classes.
    """

    path: str
    changed: int
    samples: NDArray[np.int64]
    groups: NDArray[np.int64]

    def row(self, place: int) -> Row:
        """float32[S]: what one point showed."""
        with safe_open(self.path, framework="numpy") as file:
            return np.asarray(file.get_slice("values")[place : place + 1][0])

    def nearest(self, place: int, count: int = 8) -> list[tuple[int, float]]:
        """(place, correlation) of the points that answer most alike."""
        return neighbours.nearest(_standardised(self.path, self.changed), place, count)


def of(seen: Seen) -> Kept | None:
    """What the scan kept; None for a scan of an older version."""
    path = seen.folder / FILE
    return _read(str(path), path.stat().st_mtime_ns) if path.exists() else None


@st.cache_resource(show_spinner=False, max_entries=16)
def _read(path: str, changed: int) -> Kept:
    with safe_open(Path(path), framework="numpy") as file:
        return Kept(path, changed, file.get_tensor("samples"), file.get_tensor("groups"))


@st.cache_resource(show_spinner=False, max_entries=2)
def _standardised(path: str, changed: int) -> Row:
    with safe_open(Path(path), framework="numpy") as file:
        return neighbours.standardised(file.get_tensor("values"))
