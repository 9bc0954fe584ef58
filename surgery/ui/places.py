"""Where neurons stand on the map: after a surgery, where they stood before, so that both maps compare by eye.

A version made from a scanned one takes over place and cluster of every neuron through the old-id map; what was
removed stays as a mark. Otherwise a version has coordinates of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from surgery import jobs
from surgery.errors import NotFoundError
from surgery.ui import scans
from surgery.ui.messages import _
from surgery.ui.scans import Seen
from surgery.workspace import Version, Workspace

PLACE = ["x", "y", "cluster"]
SMALLEST = 100  # points; fewer are placed by PCA alone


@dataclass(frozen=True)
class Places:
    """at: N rows, columns x, y, cluster; gone: columns id, x, y, text of the neurons that were removed on the way."""

    at: pd.DataFrame
    gone: pd.DataFrame
    source: str  # the version whose scan gave the coordinates
    final: bool  # whether they are the map's own, which take a while, or those of PCA, which are there at once

    @property
    def inherited(self) -> bool:
        """Whether something was removed from this map."""
        return bool(len(self.gone))


def of(ws: Workspace, version: Version, dataset: str, seen: Seen) -> Places:
    """The places of a version's neurons."""
    parent = _scanned_parent(ws, version, dataset)
    kept = ws.kept(version.id)
    if parent is None or kept is None or min(kept, default=-1) < 0:
        return own(version, seen)
    older, before = parent
    return follow(of(ws, older, dataset, before), before, kept)


def own(version: Version, seen: Seen) -> Places:
    """Coordinates from the version's own scan: UMAP when it is ready, else PCA."""
    axes = ["map_x", "map_y"] if seen.projected else ["pca_x", "pca_y"]
    at = seen.table[[*axes, "cluster"]].set_axis(PLACE, axis=1)
    nothing = pd.DataFrame({"id": [], "x": [], "y": [], "text": []})
    return Places(at, nothing, version.id, seen.projected or len(seen.ids) < SMALLEST)


def follow(parent: Places, before: Seen, kept: Sequence[int]) -> Places:
    """The places after a surgery on `before` that kept these old ids, in the order of the new ids."""
    stays = np.isin(before.ids, list(kept))
    removed = [i for i, there in zip(before.ids, stays, strict=True) if not there]
    rows = before.table.iloc[removed]
    names = [
        _("{layer} · {position}, removed").format(layer=a, position=b)
        for a, b in zip(rows["layer"], rows["position"], strict=True)
    ]
    gone = parent.at.iloc[removed].assign(id=removed, text=names)[["id", "x", "y", "text"]]
    at = parent.at.iloc[list(kept)].reset_index(drop=True)
    every = pd.concat([parent.gone, gone], ignore_index=True) if parent.inherited else gone
    return replace(parent, at=at, gone=every)


def arrange(ws: Workspace, project: str, dataset: str, places: Places) -> None:
    """Have the map's own coordinates computed in the background, once; until then and if that fails PCA stays."""
    if places.final:
        return
    tried = [job for job in jobs.jobs(ws, project) if job.kind == "projection"]
    if not any((job.task["version"], job.task["dataset"]) == (places.source, dataset) for job in tried):
        task = {"kind": "projection", "version": places.source, "dataset": dataset, "params": scans.PARAMETERS}
        jobs.submit(ws, task, project=project, title=_("Arrange the map"))


def _scanned_parent(ws: Workspace, version: Version, dataset: str) -> tuple[Version, Seen] | None:
    if version.parent is None:
        return None
    try:
        older = ws.version(version.parent)
    except NotFoundError:
        return None
    seen = scans.read(ws, older.id, dataset)
    return (older, seen) if seen else None
