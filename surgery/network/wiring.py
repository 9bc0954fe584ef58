"""The network as a drawing needs it, in plain numbers: its layers, who feeds whom, which go together.

Read off the index: a layer feeds another when that reads what it writes. Where several layers add into one stream,
the reader is fed by the last of them before it; that they share their neurons is a coupling.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn

from surgery.network.index import NeuronIndex


def wiring(module: nn.Module, index: NeuronIndex) -> dict[str, Any]:
    """layers: {name, kind, neurons, parameters}, in order of execution; edges, couplings: pairs of their places.

    An edge from −1 comes from the model's input.
    """
    layers = [
        {"name": name, "kind": layer.kind, "neurons": len(layer.rows), "parameters": _parameters(module, name)}
        for name, layer in index.layers.items()
    ]
    writers = _writers(index)
    return {"layers": layers, "edges": _edges(index, writers), "couplings": _couplings(writers)}


def _parameters(module: nn.Module, name: str) -> int:
    """Of the layer itself; a layer may be a bare weight."""
    modules, tensors = dict(module.named_modules()), dict(module.named_parameters())
    if name in modules:
        return sum(tensor.numel() for tensor in modules[name].parameters())
    return tensors[name].numel() if name in tensors else 0


def _writers(index: NeuronIndex) -> dict[int, list[int]]:
    """Group number -> places of the layers that write one of its neurons."""
    found: dict[int, list[int]] = {}
    for place, layer in enumerate(index.layers.values()):
        for group in index.group[layer.rows].unique().tolist():
            found.setdefault(group, []).append(place)
    return found


def _edges(index: NeuronIndex, writers: dict[int, list[int]]) -> list[list[int]]:
    edges = set()
    for place, layer in enumerate(index.layers.values()):
        if bool((layer.cols < 0).any()):
            edges.add((-1, place))
        for group in index.group[layer.cols[layer.cols >= 0]].unique().tolist():
            before = [writer for writer in writers.get(group, ()) if writer < place]
            edges.update((writer, place) for writer in before[-1:])
    return sorted([start, end] for start, end in edges)


def _couplings(writers: dict[int, list[int]]) -> list[list[int]]:
    """Neighbours in every set of layers that share groups."""
    pairs = {pair for places in writers.values() for pair in pairwise(places)}
    return sorted([one, other] for one, other in pairs)
