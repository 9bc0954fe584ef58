"""How long a forward pass takes on this machine, the models taking turns, so that a busy machine hurts all alike."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from surgery.context import Context
from surgery.network.model import Model

WARM_UP = 3
ROUNDS = 30  # at most; fewer for slow models, never below LEAST
LEAST = 5
SECONDS = 3.0  # per batch size, after which no new round is begun


@dataclass(frozen=True)
class Latency:
    """Milliseconds per forward pass: median and interquartile range over `rounds` passes."""

    batch: int
    median: float
    iqr: float
    rounds: int


def latency(models: Mapping[str, Model], batch: int, ctx: Context) -> dict[str, Latency]:
    """Time forward passes of `batch` random samples on `ctx.device`, one pass of each model per round.

    Raises:
        Cancelled: between rounds.
    """
    runs = {
        name: (_on_device(model, ctx.device), model.input.example(batch, ctx.device)) for name, model in models.items()
    }
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for module, x in runs.values():
            for _ in range(WARM_UP):
                _seconds(module, x, ctx.device)
        start = time.perf_counter()
        for done in ctx.track(range(ROUNDS), f"timing, batch {batch}"):
            if done >= LEAST and time.perf_counter() - start > SECONDS:
                break
            for name, (module, x) in runs.items():
                times[name].append(_seconds(module, x, ctx.device))
    return {name: _summary(batch, passes) for name, passes in times.items()}


def threads(device: str) -> str:
    """What a time was taken on: "cpu, 2 threads" or the device's name."""
    count = torch.get_num_threads()
    return f"{device}, {count} thread{'s' if count > 1 else ''}" if device == "cpu" else device


def _on_device(model: Model, device: str) -> nn.Module:
    return model.module if device == "cpu" else copy.deepcopy(model.module).to(device)


def _seconds(module: nn.Module, x: Tensor, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    module(x)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    """A GPU works on after the call has returned."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()


def _summary(batch: int, passes: list[float]) -> Latency:
    low, middle, high = np.percentile(np.array(passes) * 1e3, [25, 50, 75])
    return Latency(batch, float(middle), float(high - low), len(passes))
