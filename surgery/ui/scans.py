"""What a scan found, read without torch: a table row per neuron, its profile over classes, its strongest samples."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from safetensors import safe_open

from surgery import charts
from surgery.ui.state import View
from surgery.workspace import Workspace

TABLE = "neurons.parquet"
PARAMETERS: dict[str, object] = {}  # the scan's defaults: all training samples


@dataclass(frozen=True)
class Seen:
    """N rows each. table: one row per neuron id; mean, var, active: float32[N, C]; top: int64[N, 9], −1 = none.

    count: float32[C], the samples of each class. kept: int64[N, 32], the class of each column where only the strongest
    classes of each neuron were kept (−1: none), best first; None: column c is class c.
    """

    folder: Path
    table: pd.DataFrame
    count: NDArray[np.float32]
    mean: NDArray[np.float32]
    var: NDArray[np.float32]
    active: NDArray[np.float32]
    top: NDArray[np.int64]
    classes: tuple[str, ...]
    kept: NDArray[np.int64] | None = None

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return int(self.count.sum())

    @cached_property
    def points(self) -> pd.DataFrame:
        """The rows that are drawn and can be chosen: one per group of hidden neurons."""
        return self.table[self.table["point"]]

    @cached_property
    def spoken(self) -> list[str]:
        """What is shown when the mouse is over a point: its name, then its sentence."""
        rows = zip(self.points["layer"], self.points["position"], self.points["sentence"], strict=True)
        return [
            f"<b>{html.escape(f'{layer} · {position}')}</b><br>{html.escape(sentence).replace('; ', '<br>')}"
            for layer, position, sentence in rows
        ]

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The ids that can be chosen, ascending."""
        return tuple(self.points["id"].tolist())

    @cached_property
    def leaders(self) -> dict[int, int]:
        """Hidden neuron -> the member of its coupled group that is drawn and chosen for it."""
        hidden = self.table[~self.table["logit"]]
        return dict(zip(hidden["id"].tolist(), hidden["group"].tolist(), strict=True))

    @property
    def ranges(self) -> bool:
        """Whether the classes are ranges of one number to predict, which have an order."""
        return self.classes[0].startswith("Q1 ")

    @property
    def colours(self) -> dict[str, str]:
        """The colour of every class: of its own, or along a scale for ranges."""
        return charts.ordered_colours(self.classes) if self.ranges else charts.class_colours(self.classes)

    @property
    def projected(self) -> bool:
        """Whether the map's own coordinates are there, and not only those of PCA."""
        return "map_x" in self.table and bool(self.points["map_x"].notna().all())

    def profile(self, neuron: int) -> dict[str, float]:
        """The mean activation of one neuron on every class that is known of it."""
        known = self.known(neuron)
        means = self.mean[neuron, : len(known)].tolist()
        return {self.classes[place]: mean for place, mean in zip(known, means, strict=True)}

    def known(self, neuron: int) -> list[int]:
        """The classes whose statistics are known of one neuron, in the order of its columns."""
        if self.kept is None:
            return list(range(len(self.classes)))
        return [place for place in self.kept[neuron].tolist() if place >= 0]

    def means_on(self, place: int) -> NDArray[np.float64]:
        """float64[P]: the mean of every neuron that can be chosen on one class, NaN where it was not kept."""
        ids = list(self.ids)
        if self.kept is None:
            return self.mean[ids, place].astype(np.float64)
        hit = self.kept[ids] == place
        return np.where(hit.any(1), self.mean[ids, hit.argmax(1)], np.nan)

    def strongest(self, neuron: int) -> list[int]:
        """The samples on which one neuron is strongest, best first, at most 9."""
        return [sample for sample in self.top[neuron].tolist() if sample >= 0]


def of(view: View) -> Seen | None:
    """The scan of the version on the dataset on view; None when there is none yet."""
    if view.version is None or view.dataset is None:
        return None
    return read(view.workspace, view.version.id, view.dataset.id)


def read(ws: Workspace, version: str, dataset: str) -> Seen | None:
    """The scan of a version on a dataset; None when there is none yet."""
    folder = ws.scan_folder(version, dataset, PARAMETERS)
    table = folder / TABLE
    if not ws.scan_is_whole(folder) or not table.exists():
        return None
    return _read(str(folder), table.stat().st_mtime_ns)


@st.cache_resource(show_spinner=False, max_entries=16)
def _read(folder: str, changed: int) -> Seen:
    """Read once per content: the projection replaces the table, so its time of change is part of the key."""
    home = Path(folder)
    about = json.loads((home / "scan.json").read_text("utf-8"))
    with safe_open(home / "scan.safetensors", framework="numpy") as file:
        count, mean, var, active, top = (
            file.get_tensor(name) for name in ("count", "mean", "var", "active", "top_sample")
        )
        kept = file.get_tensor("kept/classes") if "kept/classes" in file.keys() else None  # noqa: SIM118  no mapping
    classes = tuple(about["classes"])
    return Seen(home, pd.read_parquet(home / TABLE), count, mean, var, active, top, classes, kept)
