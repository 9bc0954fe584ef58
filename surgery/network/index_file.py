"""The neuron index on disk: its id tensors as safetensors, its names and reasons as JSON in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import BoolTensor, LongTensor, Tensor

from surgery.network.index import Layer, NeuronIndex

_HEADER = "index"  # the one header entry: the order of several would differ from run to run


def write_index(index: NeuronIndex, path: Path) -> None:
    """Write the index; `read_index` gives an equal one back."""
    tensors: dict[str, Tensor] = {"group": index.group, "fixed": index.fixed}
    for name, layer in index.layers.items():
        tensors[f"rows/{name}"] = layer.rows
        tensors[f"cols/{name}"] = layer.cols
    for name, axes in index.axes.items():
        tensors.update({f"axes/{name}/{axis}": ids for axis, ids in enumerate(axes) if ids is not None})
    header = {
        "layers": [[layer.name, layer.kind, layer.shiftable] for layer in index.layers.values()],
        "axes": {name: len(axes) for name, axes in index.axes.items()},
        "why_fixed": {str(group): reason for group, reason in index.why_fixed.items()},
        "unmeasured": {str(group): reason for group, reason in index.unmeasured.items()},
    }
    owned = {name: tensor.detach().clone() for name, tensor in tensors.items()}  # ids may share storage
    save_file(owned, path, metadata={_HEADER: json.dumps(header)})


def read_index(path: Path) -> NeuronIndex:
    """Read an index that `write_index` wrote."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[_HEADER])
    tensors = load_file(path)
    layers = {
        name: Layer(name, _ids(tensors[f"rows/{name}"]), _ids(tensors[f"cols/{name}"]), kind, shiftable)
        for name, kind, shiftable in header["layers"]
    }
    axes = {
        name: tuple(cast("LongTensor | None", tensors.get(f"axes/{name}/{axis}")) for axis in range(count))
        for name, count in header["axes"].items()
    }
    why_fixed = {int(group): reason for group, reason in header["why_fixed"].items()}
    unmeasured = {int(group): reason for group, reason in header.get("unmeasured", {}).items()}  # none before 0.2
    fixed = cast(BoolTensor, tensors["fixed"].to(torch.bool))
    return NeuronIndex(layers, axes, _ids(tensors["group"]), fixed, why_fixed, unmeasured)


def _ids(tensor: Tensor) -> LongTensor:
    """Neuron ids as int64."""
    return cast(LongTensor, tensor.to(torch.long))
