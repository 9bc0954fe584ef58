"""A guard for models in use: a part of the inputs is answered by the model as it was too, and who disagrees too often
runs as it was again.

Agreement is followed by an exponentially weighted mean with a control limit (EWMA chart, Roberts 1959): the limit is
`SURE` standard deviations below the level at which the share was accepted, itself taken low by its own uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.fleet import Fleet
    from surgery.network.model import InputSpec, Model

WEIGHT = 0.1  # of the newest look
SURE = 4.0
DOUBT = 2.0  # standard errors by which the level is taken low
BATCH = 32


@dataclass
class Chart:
    """One guest's agreement over time. accepted: the share it was accepted at, on so many samples."""

    accepted: float
    samples: int
    mean: float = field(init=False)
    looks: float = 1.0  # (1 − weight)^(2 · looks so far)

    def __post_init__(self) -> None:
        level = (self.accepted * self.samples + 1) / (self.samples + 2)  # of no disagreement at all one is possible
        self.level = max(level - DOUBT * (level * (1 - level) / self.samples) ** 0.5, 0.0)
        self.mean = self.level

    def add(self, agreed: int, count: int) -> tuple[float, float]:
        """One look at `count` samples: the mean now and the limit that it must not fall below."""
        self.mean = (1 - WEIGHT) * self.mean + WEIGHT * agreed / count
        self.looks *= (1 - WEIGHT) ** 2
        deviation = (self.level * (1 - self.level) / count * WEIGHT / (2 - WEIGHT) * (1 - self.looks)) ** 0.5
        return self.mean, self.level - SURE * deviation


def replay(
    fleet: Fleet,
    originals: Mapping[str, Model],
    levels: Mapping[str, tuple[float, int]],
    input: InputSpec,
    streams: Mapping[str, Dataset],
    ctx: Context,
    *,
    watched: float = 0.25,
    took_back: Callable[[str, str], None] = lambda guest, why: None,
) -> dict[str, Any]:
    """Let datasets run through a fleet one after the other; the fleet changes where a guest is taken back.

    All samples of a dataset are its stream, in a seeded order.
    originals: the guests that share, as they were. levels: agreement and samples that each was accepted at. watched:
    the share of inputs that the original answers too.

    Result: inputs; skipped (samples that are no numbers); looks, rows of {inputs, stream, guest, agreement, limit};
    starts, {stream: inputs before it}; events, rows of {inputs, stream, guest, agreement, limit, identical}: identical
    says that the guest, once back, answered the very batch bit for bit as the original.

    Raises:
        DataError: a stream does not fit, or no sample of any could be judged. Cancelled.
    """
    rng = np.random.default_rng(ctx.seed)
    charts = {guest: Chart(*levels[guest]) for guest in originals}
    plain = replace(input, mean=(0.0,) * input.shape[0], std=(1.0,) * input.shape[0])
    result: dict[str, Any] = {"inputs": 0, "skipped": 0, "looks": [], "starts": {}, "events": []}
    device = ctx.device
    fleet.to(device)
    for model in originals.values():
        model.module.to(device)
    for name, data in streams.items():
        ids = np.sort(np.concatenate([data.ids(role) for role in data.counts()]))
        result["starts"][name] = result["inputs"]
        batches = data.batches(ids, plain, size=BATCH, device=device, seed=ctx.seed)
        for x, _, _ in ctx.track(batches, f"replaying {name}"):
            sound = torch.isfinite(x).flatten(1).all(1)
            result["inputs"] += len(x)
            result["skipped"] += int((~sound).sum())
            x = x[sound]
            shadow = torch.from_numpy(rng.random(len(x)) < watched).to(device)
            if not len(x) or not bool(shadow.any()):
                continue
            with torch.inference_mode():
                said = fleet(x)
                for guest in list(charts):
                    own = originals[guest].answers(_asked(fleet, originals[guest], guest, x[shadow]))
                    agreed = int((said[guest][shadow].argmax(1) == own.argmax(1)).sum())
                    mean, limit = charts[guest].add(agreed, len(own))
                    look = {
                        "inputs": result["inputs"],
                        "stream": name,
                        "guest": guest,
                        "agreement": mean,
                        "limit": limit,
                    }
                    result["looks"].append(look)
                    ctx.point(**{f"agreement/{guest}": mean, f"limit/{guest}": limit})
                    if mean < limit:
                        del charts[guest]
                        why = f"agreement {mean:.1%} fell below {limit:.1%} after {result['inputs']:,} inputs"
                        ctx.log(f"{guest} is taken back: {why}")
                        took_back(guest, f"{why}, in {name}")
                        fleet.take_back(guest, originals[guest].module)
                        same = torch.equal(fleet(x)[guest], _asked(fleet, originals[guest], guest, x))
                        result["events"].append({**look, "identical": same})
    if result["inputs"] == result["skipped"]:
        raise DataError(
            f"None of {result['inputs']:,} samples holds numbers throughout.",
            "Replay a dataset without missing values.",
        )
    return result


def _asked(fleet: Fleet, model: Model, guest: str, x: torch.Tensor) -> torch.Tensor:
    """What a guest said before it shared, of inputs before normalisation."""
    seen = fleet.scales[fleet.names.index(guest)](x)
    return model.answers(model.module(seen))
