"""A guard for models in use: a part of the inputs is answered by the model as it was too, and who disagrees too often
runs as it was again.

Agreement is followed by an exponentially weighted mean with a control limit (EWMA chart, Roberts 1959): the limit is
`SURE` standard deviations below the level at which the share was accepted, itself taken low by its own uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from surgery.edit.evaluate import placed
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
    streams: Sequence[tuple[str, Dataset]],
    ctx: Context,
    *,
    watched: float = 0.25,
    took_back: Callable[[str, str], None] = lambda guest, why: None,
) -> dict[str, Any]:
    """Let streams, named datasets, run through a fleet one after the other; it changes where a guest is taken back.

    All samples of a dataset are its stream, in a seeded order.
    originals: the guests that share, as they were. levels: agreement and samples that each was accepted at. watched:
    the share of inputs that the original answers too.

    Result: inputs; watched (of them); skipped (samples that are no numbers); looks, rows of {inputs, stream, guest,
    agreement, limit}; starts, rows of {stream, inputs before it}; events, rows of {inputs, stream, guest, agreement,
    limit, identical}: identical says that the fleet, with the guest back in it, answers the very batch bit for bit as
    the guest alone does, normalisation included.

    Raises:
        DataError: a stream does not fit, or no sample of any could be judged. Cancelled.
    """
    rng = np.random.default_rng(ctx.seed)
    plain = replace(input, mean=(0.0,) * input.shape[0], std=(1.0,) * input.shape[0])
    with placed(ctx.device, fleet, *(model.module for model in originals.values())), torch.inference_mode():
        watch = _Watch(fleet, originals, {guest: Chart(*levels[guest]) for guest in originals}, ctx, took_back)
        for name, data in streams:
            watch.starts.append({"stream": name, "inputs": watch.inputs})
            ids = np.sort(np.concatenate([data.ids(role) for role in data.counts()]))
            batches = data.batches(ids, plain, size=BATCH, device=ctx.device, seed=ctx.seed)
            for x, _, _ in ctx.track(batches, f"replaying {name}"):
                shadow = torch.from_numpy(rng.random(len(x)) < watched).to(ctx.device)
                watch.look(name, x, shadow)
    if not watch.watched:
        raise DataError(
            f"None of {watch.inputs:,} samples could be judged: {watch.skipped:,} hold no numbers, none of the others "
            "was watched.",
            "Replay a dataset without missing values, or watch more of the inputs.",
        )
    return {key: getattr(watch, key) for key in ("inputs", "watched", "skipped", "looks", "starts", "events")}


@dataclass
class _Watch:
    """A fleet in use, and what was seen of it."""

    fleet: Fleet
    originals: Mapping[str, Model]
    charts: dict[str, Chart]
    ctx: Context
    took_back: Callable[[str, str], None]
    inputs: int = 0
    watched: int = 0
    skipped: int = 0
    looks: list[dict[str, Any]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def look(self, stream: str, x: Tensor, shadow: Tensor) -> None:
        """One batch before normalisation; shadow: bool[b], the inputs that are watched."""
        sound = torch.isfinite(x).flatten(1).all(1)
        self.inputs += len(x)
        self.skipped += int((~sound).sum())
        x, shadow = x[sound], shadow[sound]
        if not bool(shadow.any()):
            return
        self.watched += int(shadow.sum())
        said = self.fleet(x)
        for guest in list(self.charts):
            own = self._alone(guest, x[shadow])
            agreed = int((said[guest][shadow].argmax(1) == own.argmax(1)).sum())
            mean, limit = self.charts[guest].add(agreed, len(own))
            look = {"inputs": self.inputs, "stream": stream, "guest": guest, "agreement": mean, "limit": limit}
            self.looks.append(look)
            if mean < limit:
                self._end(look, x)

    def _end(self, look: dict[str, Any], x: Tensor) -> None:
        """Take a guest back there and then."""
        guest, why = look["guest"], f"agreement {look['agreement']:.1%} fell below {look['limit']:.1%}"
        alone = self._alone(guest, x)
        del self.charts[guest]
        self.ctx.log(f"{guest} is taken back: {why} after {self.inputs:,} inputs")
        self.took_back(guest, f"{why} after {self.inputs:,} inputs, in {look['stream']}")
        self.fleet.take_back(guest, self.originals[guest].module)
        self.events.append({**look, "identical": torch.equal(self.fleet(x)[guest], alone)})

    def _alone(self, guest: str, x: Tensor) -> Tensor:
        """What a guest says by itself, of inputs before normalisation."""
        model = self.originals[guest]
        shape = (-1, *(1,) * (x.dim() - 2))
        mean, std = (torch.tensor(v, device=x.device).reshape(shape) for v in (model.input.mean, model.input.std))
        return model((x - mean) / std)
