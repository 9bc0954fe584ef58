"""Give a classifier outputs for classes that it does not know yet; no weight that it had is touched."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import DataError, TraceError
from surgery.network.index import Layer, NeuronIndex
from surgery.network.model import Model

HEADS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def grow(model: Model, classes: Sequence[str], seed: int = 0) -> Model:
    """A model with one more output per new class, at the end; its weights are drawn as small as those of the others.

    The neurons keep their ids; the new outputs get N … N + k − 1.

    Raises:
        DataError: a class is known already, or named twice. TraceError: the outputs are not written by one linear
        layer or convolution.
    """
    known = [name for name in classes if name in model.classes]
    if known or len(set(classes)) < len(classes):
        raise DataError(
            f"These classes are known already or named twice: {', '.join(known or classes)}.", "Name each new one once."
        )
    name, layer, index = head_of(model)
    module = copy.deepcopy(model.module)
    head: Any = module.get_submodule(name)
    count = len(classes)
    drawn = torch.randn(count, *head.weight.shape[1:], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        fresh = drawn * head.weight.std()
        head.weight = nn.Parameter(torch.cat([head.weight, fresh.to(head.weight)]))
        if head.bias is not None:
            head.bias = nn.Parameter(torch.cat([head.bias, head.bias.new_zeros(count)]))
    _widen(head, count)
    added = torch.arange(index.n, index.n + count)

    def longer(ids: Tensor | None, *, grown: bool) -> Tensor | None:
        return torch.cat([ids, added]) if ids is not None and grown else ids

    rows = torch.cat([layer.rows, added])
    layers = {**index.layers, name: Layer(name, rows, layer.cols, layer.kind, layer.shiftable)}
    axes = {
        tensor: tuple(
            longer(ids, grown=axis == 0 and tensor in (f"{name}.weight", f"{name}.bias"))
            for axis, ids in enumerate(own)
        )
        for tensor, own in index.axes.items()
    }
    numbered = replace(
        index,
        layers=layers,
        axes=axes,
        group=torch.cat([index.group, added]),
        fixed=torch.cat([index.fixed, torch.ones(count, dtype=torch.bool)]),
        why_fixed={**index.why_fixed, **{int(i): "model output" for i in added}},
    )
    return replace(model, module=module, classes=(*model.classes, *classes), index=numbered)


def head_of(model: Model) -> tuple[str, Layer, NeuronIndex]:
    """The layer that writes the outputs of a classifier, and the numbering that it belongs to.

    Raises:
        TraceError: the outputs are not written by one linear layer or convolution.
    """
    index = model.index
    if index is None or model.task != "classification":
        raise TraceError("Only a classifier with numbered neurons can learn new classes.")
    name, layer = list(index.layers.items())[-1]
    head = model.module.get_submodule(name) if layer.shiftable else None
    if not isinstance(head, HEADS) or not bool(index.logits[layer.rows].all()) or len(layer.rows) != len(model.classes):
        raise TraceError(f"The outputs are not written by one linear layer or convolution ({name}).")
    if getattr(head, "groups", 1) != 1:
        raise TraceError(f"The outputs are written by a convolution in groups ({name}).")
    return name, layer, index


def _widen(head: Any, count: int) -> None:
    """Make the size that the module repeats in an attribute true again."""
    if isinstance(head, nn.Linear):
        head.out_features += count
    else:
        head.out_channels += count
