"""What two networks have in common, asked of the warm model and another version: similarities, and what layers tell
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.analysis.similarity import BATCH, METRICS, similarity
from surgery.context import Context
from surgery.errors import JobError
from surgery.network.cuts import Cut, cuts_of
from surgery.network.fleet import Tap, replaced
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.jobs.whatif import WhatIf

DIRECTIONS, STRONGEST = 3, 6
BATCHES = 4  # the probe set is cut into so many batches, so that there is a lower bound


def similar(probe: WhatIf, other: str, metric: str) -> dict[str, Any]:
    """How alike the cuts of the warm version and of another are, over the probe set: layers (of each), value and low
    (rows: this version's; low None where there is none), samples; cuts, of each the rows of {name, shape, bytes, macs,
    numbers}: what lies before a cut, and how large its representation of one sample is.

    Raises:
        DataError, TraceError: as `similarity`. JobError: another metric.
    """
    if metric not in METRICS:
        raise JobError(f"There is no similarity {metric!r}.", f"Choose one of {', '.join(METRICS)}.")
    ids, models = probe.probes.ids, (probe.model, probe.ws.model(other))
    batch = min(BATCH, max(8, len(ids) // BATCHES))
    cuts = [cuts_of(model) for model in models]
    found = similarity(
        *models,
        probe.data,
        ids,
        Context(probe.device),
        layers=([cut.name for cut in cuts[0]], [cut.name for cut in cuts[1]]),
        metric=METRICS[METRICS.index(metric)],
        batch=batch,
    )
    low = [[None if value != value else value for value in row] for row in found.low.tolist()]
    return {
        "layers": found.layers,
        "value": found.value.tolist(),
        "low": low,
        "samples": found.samples,
        "cuts": [[_facts(cut) for cut in own] for own in cuts],
    }


def _facts(cut: Cut) -> dict[str, Any]:
    return {"name": cut.name, "shape": list(cut.shape), "bytes": cut.bytes, "macs": cut.macs, "numbers": cut.size}


def responses(probe: WhatIf, other: str, layers: Sequence[str]) -> dict[str, Any]:
    """What the layer of this version and that of another tell apart most: the directions of largest spread among their
    channels (spatial means over the probe set), each with the samples at its ends.

    sides: two of {layer, channels, directions: rows of {share (of the spread), high, low (sample ids)}}; together:
    [DIRECTIONS][DIRECTIONS] correlations of this version's directions with the other's.

    Raises:
        JobError: a version has no such layer.
    """
    models, scores, sides = (probe.model, probe.ws.model(other)), [], []
    for model, layer in zip(models, layers, strict=True):
        means = _means(probe, model, layer)
        centred = means - means.mean(0)
        left, spread, _ = torch.linalg.svd(centred, full_matrices=False)
        count = min(DIRECTIONS, len(spread))
        score = left[:, :count] * spread[:count]
        score = score * torch.where((score**3).sum(0) < 0, -1.0, 1.0)  # the rarer end counts as high
        order = score.argsort(0)
        share = spread.square() / spread.square().sum().clamp(min=1e-30)
        directions = [
            {
                "share": float(share[place]),
                "high": probe.probes.ids[order[-STRONGEST:, place].flip(0).numpy()].tolist(),
                "low": probe.probes.ids[order[:STRONGEST, place].numpy()].tolist(),
            }
            for place in range(count)
        ]
        scores.append(score)
        sides.append({"layer": layer, "channels": means.shape[1], "directions": directions})
    return {"sides": sides, "together": _correlation(*scores).tolist()}


def _means(probe: WhatIf, model: Model, layer: str) -> Tensor:
    """float64[n, channels] of what a module gives, averaged over its maps or tokens."""
    if layer not in dict(model.module.named_modules()):
        raise JobError(f"There is no layer {layer!r}.", "Choose a cell of the figure again.")
    module = replaced(model.module, {}, [layer])
    tap, found = Tap(module, [layer]), []
    with torch.inference_mode():
        for x, _, _ in probe.data.batches(probe.probes.ids, model.input):
            out = tap.run(module, x, [layer], whole=False)[1][layer]
            others = [axis for axis in range(1, out.dim()) if axis != (1 if out.dim() == 4 else out.dim() - 1)]
            found.append(out.double().mean(others) if others else out.double())
    return torch.cat(found)


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    a, b = (score / score.norm(dim=0).clamp(min=1e-30) for score in (one, other))
    found: Tensor = a.T @ b
    return found
