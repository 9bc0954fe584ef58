"""GEMEL's rule (NSDI 2023) as a rival: identical layers of two networks are shared, those with most bytes first.

The original trains jointly after every step and keeps a step while every network's accuracy stays above its floor; it
is tried with that training and without.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.bases import accuracy
from surgery.data.dataset import Dataset
from surgery.edit.lend import drawn
from surgery.network.model import Model

JUDGED = 1_000  # validation samples that a step is judged on
RATE, BATCH = 3e-4, 128


def gemel(models: tuple[Model, Model], data: Dataset, seed: int, *, floor: float, retrained: int) -> dict[str, int]:
    """Bytes saved by sharing the layers of two networks of one architecture, the biggest first, while both keep up.

    floor: points of accuracy on validation samples that each may lose. retrained: samples that both are trained on
    after each step; with 0 the guest takes the host's layers as they are.
    """
    host, guest = (replace(model, module=copy.deepcopy(model.module)) for model in models)
    ids = drawn(data.ids("val"), JUDGED, seed)
    floors = [100 * accuracy(model, data, ids) - floor for model in (host, guest)]
    layers = sorted(_layers(guest.module), key=lambda name: -_bytes(guest.module.get_submodule(name)))
    shared: list[str] = []
    for name in layers:
        before = [copy.deepcopy(model.module.state_dict()) for model in (host, guest)]
        _give(host.module, guest.module, name)
        if retrained:
            _retrain(host, guest, [*shared, name], data, drawn(data.ids("train"), retrained, seed + len(shared)))
        reached = [100 * accuracy(model, data, ids) for model in (host, guest)]
        if all(now >= least for now, least in zip(reached, floors, strict=True)):
            shared.append(name)
            continue
        for model, state in zip((host, guest), before, strict=True):
            model.module.load_state_dict(state)
    saved = sum(_bytes(guest.module.get_submodule(name)) for name in shared)
    return {"saved": saved, "layers": len(shared)}


def _layers(module: nn.Module) -> list[str]:
    """A convolution with its normalisation, or a linear layer: what GEMEL calls a layer. The last one stays."""
    parts = dict(module.named_modules())
    pairs = {name: part for name, part in parts.items() if isinstance(part, nn.Sequential) and len(part) == 2}
    found = [name for name, part in pairs.items() if isinstance(part[1], nn.BatchNorm2d)]
    return [*found, *(name for name, part in parts.items() if isinstance(part, nn.Linear))][:-1]


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def _give(host: nn.Module, guest: nn.Module, name: str) -> None:
    guest.get_submodule(name).load_state_dict(host.get_submodule(name).state_dict())


def _retrain(host: Model, guest: Model, shared: list[str], data: Dataset, ids: np.ndarray) -> None:
    """Both on the same training samples, shared layers one and the same."""
    _place(host.module, guest.module, shared)
    parameters = {id(p): p for model in (host, guest) for p in model.module.parameters()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=RATE, weight_decay=0.0)
    host.module.train(), guest.module.train()
    for x, y, _ in data.batches(ids, host.input, size=BATCH, seed=len(shared)):
        loss = F.cross_entropy(host.module(x), y) + F.cross_entropy(guest.module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    host.module.eval(), guest.module.eval()
    _place(copy.deepcopy(host.module), guest.module, shared)  # apart again, so that a failed step can be taken back


def _place(host: nn.Module, guest: nn.Module, names: list[str]) -> None:
    """The host's own layers take the places of the guest's."""
    for name in names:
        path, _, leaf = name.rpartition(".")
        setattr(guest.get_submodule(path), leaf, host.get_submodule(name))
