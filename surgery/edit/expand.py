"""Put a shrunk network back into the size of the one it came from, with zeros where neurons are missing."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from surgery.network.model import Model


def expand(small: Model, original: Model, kept: Tensor) -> Model:
    """A model of the size of `original` that answers like `small`: missing neurons are there, but nobody reads them.

    kept: int64[N_small], the old id of each neuron of `small`, rising. Nothing is saved by this: it is a mask.
    Biases that `small` has gained by leaving means behind are numbered too.
    """
    index = original.index
    assert index is not None
    keep = torch.zeros(index.n, dtype=torch.bool)
    keep[kept] = True
    module = copy.deepcopy(original.module)
    tensors = small.module.state_dict()
    with torch.no_grad():
        gained = [n for n in index.layers if f"{n}.bias" in tensors and f"{n}.bias" not in index.axes]
        for name in gained:
            module.get_submodule(name).bias = nn.Parameter(torch.zeros(len(index.layers[name].rows)))
        index = replace(index, axes={**index.axes, **{f"{name}.bias": (index.layers[name].rows,) for name in gained}})
        parameters = {name for name, _ in module.named_parameters()}
        for name, tensor in module.state_dict().items():
            axes = index.axes.get(name, (None,) * tensor.dim())
            places = [
                torch.arange(size) if ids is None else ((ids < 0) | keep[ids.clamp(min=0)]).nonzero()[:, 0]
                for size, ids in zip(tensor.shape, axes, strict=True)
            ]
            if name in parameters:
                tensor.zero_()  # statistics of missing neurons stay as they were
            if places:
                tensor[torch.meshgrid(*places, indexing="ij")] = tensors[name]
            else:
                tensor.copy_(tensors[name])
    return replace(original, module=module, index=index)
