"""Measure a fleet: what each member still says and gets right, what all of them take together, before and after.

Rows are those of `compare`; the scope is a member's name, or "overall" for all together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from surgery import temporary
from surgery.context import Context
from surgery.edit.agreement import agreement
from surgery.edit.evaluate import predict
from surgery.edit.lend import Share, fleet_of
from surgery.errors import DataError, MeasureError
from surgery.measure.cases import cases
from surgery.measure.measurement import ALL, BATCHES, opened
from surgery.measure.resident import resident
from surgery.network import fleet_store, store
from surgery.network.cost import macs
from surgery.network.fleet import Fleet
from surgery.network.latency import latency, threads
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

COLUMNS = ("metric", "scope", "before", "after", "change", "unit", "better", "split", "n")
Row = tuple[Any, ...]


def measure_fleet(
    before: Mapping[str, Model],
    after: Mapping[str, Model],
    shares: Mapping[str, tuple[str, Share]],
    data: Dataset,
    ctx: Context,
) -> pd.DataFrame:
    """Rows of COLUMNS: agreement of every member with itself, accuracy where the data has its classes, parameters,
    bytes, multiply-accumulates, memory in a clean process, and latency for one, some and all members.

    before, after: the members by name; shares: guest -> its host, and what it shares.

    Raises:
        MeasureError: no samples. Cancelled.
    """
    rows = [*_answers(before, after, data, ctx), *_sizes(before, shares), *_times(before, shares, ctx)]
    found = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "change"])
    found["change"] = found["after"] - found["before"]
    found["n"] = found["n"].astype("Int64")  # sizes were measured on nothing
    return found[list(COLUMNS)]


def cases_of(before: Mapping[str, Model], after: Mapping[str, Model], data: Dataset, ctx: Context) -> dict[str, Any]:
    """The must-keep cases of all members that share: n, right, broken and mended, each case once for every member that
    knows its class; unguarded: members that know none of the data's classes.
    """
    total: dict[str, Any] = {"n": 0, "right": 0, "broken": [], "mended": [], "unguarded": []}
    for name, model in before.items():
        if after[name] is model:
            continue
        try:
            found = cases(model, after[name], data, ctx)
        except (DataError, MeasureError):
            total["unguarded"].append(name)
            continue
        total["n"], total["right"] = total["n"] + found["n"], total["right"] + found["right"]
        for key in ("broken", "mended"):
            total[key] += [{**one, "member": name} for one in found[key]]
    return total


def _answers(before: Mapping[str, Model], after: Mapping[str, Model], data: Dataset, ctx: Context) -> Iterator[Row]:
    """Of every member, and the mean over members."""
    split, ids = opened(data)
    agreed, right = [], []
    for name, model in before.items():
        old = predict(model, data, ids, ctx, f"measuring {name}")
        new = old if after[name] is model else predict(after[name], data, ids, ctx, f"measuring {name} as it shares")
        found = agreement(old, new, model.classes)
        agreed.append(found.share)
        yield "agreement", name, 1.0, found.share, "fraction", "higher", split, len(ids)
        if found.worst_class:
            yield f"agreement, class {found.worst_class}", name, 1.0, found.worst, "fraction", "higher", split, len(ids)
        scores = _accuracies(model, old, new, data, split, ids)
        if scores is not None:
            right.append(scores)
            yield "accuracy", name, *scores, "fraction", "higher", split, len(ids)
    yield "agreement", ALL, 1.0, float(np.mean(agreed)), "fraction", "higher", split, len(ids)
    if right:
        means = np.mean(right, axis=0)
        yield "accuracy", ALL, float(means[0]), float(means[1]), "fraction", "higher", split, len(ids)


def _accuracies(
    model: Model, old: Tensor, new: Tensor, data: Dataset, split: str, ids: np.ndarray
) -> tuple[float, float] | None:
    """Before and after; None where the data does not tell this model's classes apart."""
    if data.task != "classification" or split == "unlabelled":
        return None
    try:
        truth = model.outputs_of(data.classes)[torch.as_tensor(data.labels(ids))]
    except DataError:
        return None
    return float((old.argmax(1) == truth).double().mean()), float((new.argmax(1) == truth).double().mean())


def _sizes(before: Mapping[str, Model], shares: Mapping[str, tuple[str, Share]]) -> Iterator[Row]:
    """Of all members together: on disk, in memory, in work."""
    apart, together = fleet_of(before, {}), fleet_of(before, shares)
    counts = [sum(parameter.numel() for parameter in fleet.parameters()) for fleet in (apart, together)]
    yield "parameters", ALL, *counts, "", "lower", "", None
    work = [macs(_asking(before, fleet)) for fleet in (apart, together)]
    yield "MACs", ALL, *work, "", "lower", "", None
    with temporary.folder("fleet") as folder:
        homes = [folder / "apart", folder / "together"]
        for fleet, home in zip((apart, together), homes, strict=True):
            fleet_store.save(fleet, before, home)
        files = [(home / store.WEIGHTS).stat().st_size for home in homes]
        held = [resident([home]) for home in homes]
    yield "bytes", ALL, *files, "bytes", "lower", "", None
    yield "weights in memory", ALL, *(one["weights"] for one in held), "bytes", "lower", "clean process", 1
    yield "memory of the process", ALL, *(one["process"] for one in held), "bytes", "lower", "clean process", 1


def _times(before: Mapping[str, Model], shares: Mapping[str, tuple[str, Share]], ctx: Context) -> Iterator[Row]:
    """One guest, a guest with its host, all members: milliseconds."""
    fleets = fleet_of(before, {}), fleet_of(before, shares)
    asked = {}
    if shares:
        guest, (host, _) = next(iter(shares.items()))
        asked = {f"{guest} alone": {guest}, f"{guest} and {host}": {guest, host}}
    if len(before) > 2 or not asked:
        asked["all members"] = set(before)
    where = threads(ctx.device)
    for batch in BATCHES:
        sides = [{name: _asking(before, fleet, wanted) for name, wanted in asked.items()} for fleet in fleets]
        models = {f"{side} {name}": model for side in (0, 1) for name, model in sides[side].items()}
        times = latency(models, batch, ctx)
        for name in asked:
            old, new = times[f"0 {name}"], times[f"1 {name}"]
            scope = f"{name}, batch {batch}"
            yield "latency", scope, old.median, new.median, "ms", "lower", where, new.rounds
            yield "latency IQR", scope, old.iqr, new.iqr, "ms", "", where, new.rounds


class _Asking(nn.Module):
    """A fleet as one module: what some of its members say, side by side."""

    def __init__(self, fleet: Fleet, wanted: set[str] | None) -> None:
        super().__init__()
        self.fleet, self.wanted = fleet, wanted

    def forward(self, x: Tensor) -> Tensor:
        """float[b, all classes of the members asked]."""
        return torch.cat(list(self.fleet(x, self.wanted).values()), dim=1)


def _asking(members: Mapping[str, Model], fleet: Fleet, wanted: set[str] | None = None) -> Model:
    """A stand-in that can be timed and counted as a model is."""
    first = next(iter(members.values()))
    return replace(first, module=_Asking(fleet, wanted).eval(), index=None)
