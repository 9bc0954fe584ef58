"""Take a part out of a network: a network of its own, with the part's neurons and the outputs of its classes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from surgery.edit.shrink import shrink
from surgery.errors import SelectionError, TraceError
from surgery.network.model import Model
from surgery.network.part import Part
from surgery.network.slicing import Means


def outputs(model: Model) -> Tensor | None:
    """int64[classes]: the neurons that write the model's outputs, in order; None when they are not one layer's."""
    assert model.index is not None
    for layer in reversed(list(model.index.layers.values())):
        rows = layer.rows[model.index.logits[layer.rows]]
        if len(rows) == len(model.classes):
            return rows
    return None


def extract(model: Model, part: Part, means: Means | None = None) -> tuple[Model, Tensor]:
    """The part as a model, and int64[n], the old id of each of its neurons.

    What the other neurons said is left out, or leaves its mean behind where `means` are given.

    Raises:
        SelectionError: the part belongs to another network. TraceError: the network cannot be shrunk, or its outputs
        are not numbered one by one.
    """
    index = model.index
    rows = outputs(model) if index is not None else None
    if index is None or rows is None:
        raise TraceError("The outputs of this network are not neurons of one layer: no part can be taken out.")
    strange = sorted(set(part.classes) - set(model.classes))
    if len(part.keep) != index.n or strange:
        wrong = f"the class {strange[0]!r}" if strange else f"{len(part.keep)} neurons"
        raise SelectionError(
            f"The part {part.name!r} belongs to another network: this one does not have {wrong}.",
            "Take it out of the version that it was made with.",
        )
    classes = tuple(name for name in model.classes if name in part.classes)
    gone = torch.zeros(index.n, dtype=torch.bool)
    gone[rows[[name not in classes for name in model.classes]]] = True
    groups = set(index.group[gone].tolist())
    why = {group: reason for group, reason in index.why_fixed.items() if group not in groups}
    loose = replace(index, fixed=index.fixed & ~gone, why_fixed=why)
    small, kept = shrink(replace(model, index=loose), (part.keep | index.fixed) & ~gone, means)
    return replace(small, classes=classes), kept
