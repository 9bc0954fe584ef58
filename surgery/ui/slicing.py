"""The slices that were found, read without torch: which neurons each class needs at a threshold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from safetensors import safe_open

from surgery.ui import scans
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids
from surgery.ui.state import View
from surgery.workspace import Workspace

TABLES, SCORES = "slices.safetensors", "criticality.safetensors"
ABOUT = "criticality.json"

Members = NDArray[np.bool_]


@dataclass(frozen=True)
class Sliced:
    """Two tables per neuron, for the P points of the map, in order of `seen.ids`.

    levels: "score/fill" -> float32[P, C]. scores: score -> float32[P, C]. samples: how many the gradient scores saw.
    """

    seen: Seen
    levels: dict[str, NDArray[np.float32]]
    scores: dict[str, NDArray[np.float32]]
    samples: int

    def members(self, score: str, fill: str, theta: float) -> Members:
        """bool[P, C]: the neurons that each class's slice has."""
        return np.asarray(self.levels[f"{score}/{fill}"] < theta)

    def shares(self, members: Members) -> tuple[list[str], NDArray[np.float64]]:
        """Layer names in order, and float64[layers, C]: the share of each layer that each class needs."""
        owner = self.seen.points["layer"].to_numpy()
        names = list(dict.fromkeys(owner))
        return names, np.stack([members[owner == name].mean(0) for name in names])

    def least(self, score: str, share: float) -> Members:
        """bool[P]: the `share` (0–1) of the neurons of all layers whose largest score over classes is smallest.

        Neurons that cannot go are left out, and so is the best of each layer.
        """
        best = self.scores[score].max(1)
        points = self.seen.points
        free = ~points["fixed"].to_numpy()
        free[pd.Series(best).groupby(points["layer"].to_numpy()).idxmax().to_numpy()] = False
        count = min(round(share * len(best)), int(free.sum()))
        chosen = np.zeros(len(best), dtype=bool)
        chosen[np.argsort(np.where(free, best, np.inf), kind="stable")[:count]] = True
        return chosen

    def ids(self, chosen: Members) -> Ids:
        """The neuron ids of bool[P]."""
        return tuple(np.asarray(self.seen.ids)[chosen].tolist())


def overlap(members: Members) -> NDArray[np.float64]:
    """float64[C, C]: shared ÷ united neurons of every two classes (Jaccard); 1 where both are empty."""
    own = members.astype(np.float64)
    shared = own.T @ own
    sizes = own.sum(0)
    united = sizes[:, None] + sizes[None] - shared
    found: NDArray[np.float64] = np.divide(shared, united, out=np.ones_like(shared), where=united > 0)
    return found


def of(view: View) -> Sliced | None:
    """The slices of the version on the dataset on view; None where there are none yet."""
    if view.version is None or view.dataset is None:
        return None
    return read(view.workspace, view.version.id, view.dataset.id)


def read(ws: Workspace, version: str, dataset: str) -> Sliced | None:
    """The slices of a version on a dataset; None where they were not looked for yet."""
    seen = scans.read(ws, version, dataset)
    if seen is None or not (seen.folder / TABLES).exists():
        return None
    about = json.loads((seen.folder / ABOUT).read_text("utf-8"))
    levels, scores = (_tables(seen, seen.folder / name) for name in (TABLES, SCORES))
    return Sliced(seen, levels, scores, int(about["inputs"]["samples"]))


def _tables(seen: Seen, file: Path) -> dict[str, NDArray[np.float32]]:
    return _read(str(file), file.stat().st_mtime_ns, seen.ids)


@st.cache_resource(show_spinner=False, max_entries=16)
def _read(path: str, changed: int, _ids: Ids) -> dict[str, NDArray[np.float32]]:
    with safe_open(Path(path), framework="numpy") as file:
        return {name: file.get_tensor(name)[list(_ids)] for name in file.keys() if name != "count"}  # noqa: SIM118
