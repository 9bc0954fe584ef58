"""The slices that were found, read without torch: which neurons each class needs at a threshold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from safetensors import safe_open

from surgery.analysis import overlap
from surgery.analysis.overlap import Members
from surgery.ui import scans
from surgery.ui.scans import Seen
from surgery.ui.selection import Ids
from surgery.ui.state import View
from surgery.workspace import Workspace

TABLES, SCORES = "slices.safetensors", "criticality.safetensors"
ABOUT = "criticality.json"
LAYERS = "layers.json"


@dataclass(frozen=True)
class Cut:
    """By what slices are cut: the score that ranks, the similarity that must stay, what is outside, and Θ."""

    score: str
    criterion: str
    fill: str
    theta: float


@dataclass(frozen=True)
class Sliced:
    """Two tables per neuron, for the P points of the map, in order of `seen.ids`.

    levels: "score/fill" (by cosine) and "score/criterion" -> float32[P, C]. scores: score -> float32[P, C].
    samples: how many the gradient scores saw.
    """

    seen: Seen
    levels: dict[str, NDArray[np.float32]]
    scores: dict[str, NDArray[np.float32]]
    samples: int

    def members(self, score: str, fill: str, theta: float, *, criterion: str = "cosine") -> Members:
        """bool[P, C]: the neurons that each class's slice has."""
        return np.asarray(self.levels[f"{score}/{fill if criterion == 'cosine' else criterion}"] < theta)

    def at(self, cut: Cut) -> Members:
        """bool[P, C]: the neurons that each class's slice has by these settings."""
        return self.members(cut.score, cut.fill, cut.theta, criterion=cut.criterion)

    @property
    def criteria(self) -> list[str]:
        """By what similarity levels were computed; older ones only by cosine."""
        return ["cosine", *(name for name in ("cka", "mass") if f"{next(iter(self.scores))}/{name}" in self.levels)]

    @property
    def layers(self) -> dict[str, Any] | None:
        """How alike layers are: layers, cka, groups, tau, samples; None where nobody compared them."""
        file = self.seen.folder / LAYERS
        found: dict[str, Any] | None = json.loads(file.read_text("utf-8")) if file.exists() else None
        return found

    def shares(self, members: Members) -> tuple[list[str], NDArray[np.float64]]:
        """Layer names in order, and float64[layers, C]: the share of each layer that each class needs."""
        owner = self.seen.points["layer"].to_numpy()
        names = list(dict.fromkeys(owner))
        return names, np.stack([members[owner == name].mean(0) for name in names])

    def least(self, score: str, share: float) -> Members:
        """bool[P]: the `share` (0–1) of the neurons of all layers whose largest score over classes is smallest.

        Neurons that cannot go are left out, and so is the best of each layer.
        """
        points = self.seen.points
        order = overlap.leaving(self.scores[score].max(1), points["layer"].tolist(), points["fixed"].to_numpy())
        chosen = np.zeros(len(points), dtype=bool)
        chosen[order[: round(share * len(points))]] = True
        return chosen

    def ids(self, chosen: Members) -> Ids:
        """The neuron ids of bool[P]."""
        return tuple(np.asarray(self.seen.ids)[chosen].tolist())


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
