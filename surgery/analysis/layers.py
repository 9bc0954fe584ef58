"""Which layers say the same: debiased linear CKA of every two layers over the same samples, and runs of like ones.

Adjacent layers with a CKA of at least τ = 0.95 share a group (NeuSemSlice merges slices "across layers according to
their semantic similarity"; criterion and τ are ours). A layer is seen by the spatial means that its readers receive.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from surgery.analysis.cka import debiased_cka
from surgery.analysis.slices import Observed, layers_of
from surgery.network.model import Model

TABLE = "layers.json"
TAU = 0.95
LIMIT = 500  # samples: a Gram matrix has so many rows
LEAST = 4  # samples below which debiased CKA has no value


def matrix(tables: Sequence[Tensor]) -> Tensor:
    """float64[L, L]: CKA of L tables float[b, n_l] over the same b samples; the identity below four samples."""
    if not tables or len(tables[0]) < LEAST:
        return torch.eye(len(tables), dtype=torch.float64)
    grams = torch.stack([table.double() @ table.double().T for table in tables])
    return torch.stack([debiased_cka(gram, grams) for gram in grams])


def runs(cka: Tensor, tau: float = TAU) -> tuple[int, ...]:
    """L group numbers, rising: a layer joins the one before it when their CKA is at least tau."""
    groups = [0] if len(cka) else []
    for place in range(1, len(cka)):
        groups.append(groups[-1] + (float(cka[place - 1, place]) < tau))
    return tuple(groups)


def save(model: Model, seen: Observed, folder: Path) -> None:
    """Write `layers.json` into a scan's folder: layers, cka, groups, tau, samples."""
    mean = seen.mean[:: max(1, -(-len(seen.mean) // LIMIT))]
    index = model.index
    assert index is not None, "what was observed has an index"
    known = list(index.layers)
    members = list(layers_of(index))
    cka = matrix([mean[:, seen.column[own]] for own in members])
    names = [known[int(index.layer_of[own[0]])] for own in members]
    about = {"layers": names, "cka": cka.tolist(), "groups": runs(cka), "tau": TAU, "samples": len(mean)}
    (folder / TABLE).write_text(json.dumps(about), encoding="utf-8")
