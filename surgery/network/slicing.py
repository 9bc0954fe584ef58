"""Cut a module down to the kept neurons: every tensor is sliced along every axis that belongs to neurons.

What a removed neuron leaves behind is defined here once, for cutting and gating alike: a shift of its readers' biases
by the weight times its mean (also at padded borders, where a true constant would give less).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from surgery.network.index import NeuronIndex

Means = Mapping[str, Tensor]  # layer -> float[in]: what each of its readers' input positions shows on average

Places = dict[int, list[tuple[dict[str, Any], str]]]  # id of a tensor -> the modules' dictionaries and its name in them

# Which sizes the modules of torch and transformers repeat in attributes, as (class, attribute, tensor, axis); read off
# after slicing. In a class of somebody else an attribute of the same name may mean anything: it stays.
SIZES: tuple[tuple[type[nn.Module] | str, str, str, int], ...] = (
    (nn.Linear, "out_features", "weight", 0),
    (nn.Linear, "in_features", "weight", 1),
    (_NormBase, "num_features", "weight", 0),
    (_NormBase, "num_features", "running_mean", 0),
    (nn.PReLU, "num_parameters", "weight", 0),
    ("transformers.pytorch_utils.Conv1D", "nf", "weight", 1),
)


def shifts(module: nn.Module, index: NeuronIndex, value: Tensor, means: Means) -> dict[str, Tensor]:
    """float[out] per layer: weight · mean · (1 − value), summed over its input positions and the kernel.

    value: float[N], 1 = kept, 0 = removed. Layers that hold no bias, or of which nothing is missing, are left out.
    """
    found = {}
    for name, layer in index.layers.items():
        if not layer.shiftable or name not in means:
            continue
        missing = torch.where(layer.cols >= 0, 1 - value[layer.cols.clamp(min=0)], 0.0)
        if bool((missing == 0).all()):
            continue
        owner: Any = module.get_submodule(name)
        weight: Tensor = owner.weight
        found[name] = _applied(owner, weight, missing.to(weight) * means[name].to(weight))
    return found


def _applied(owner: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """float[out]: the layer's response, without bias, to the constant input x: float[in]."""
    kernel = weight.flatten(2).sum(2) if weight.dim() > 2 else weight  # [out, in/groups]
    groups = int(getattr(owner, "groups", 1))
    if isinstance(owner, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        kernel = kernel / math.prod(owner.stride)  # each output sees one stride-th of the kernel
        return torch.cat([x_g @ k for x_g, k in zip(x.chunk(groups), kernel.chunk(groups), strict=True)])
    return torch.cat([k @ x_g for x_g, k in zip(x.chunk(groups), kernel.chunk(groups), strict=True)])


def cut(module: nn.Module, index: NeuronIndex, keep: Tensor, means: Means | None = None) -> nn.Module:
    """A copy of `module` with only the neurons in `keep: bool[N]`, which must be closed (NeuronIndex.check).

    Raises:
        SelectionError: when `keep` splits a group or empties a layer.
    """
    index.check(keep)
    small = copy.deepcopy(module)
    left = shifts(module, index, keep.float(), means) if means else {}
    with torch.no_grad():
        for name, shift in left.items():
            _add_bias(small.get_submodule(name), shift)
        axes = dict(index.axes) | {f"{name}.bias": (index.layers[name].rows,) for name in left}
        places = _places(small)
        for name, ids in axes.items():
            _slice(small, name, ids, keep, places)
        _resize(small, index, keep)
    return small


def _add_bias(owner: Any, shift: Tensor) -> None:
    bias = owner.bias
    if bias is None:
        owner.bias = nn.Parameter(shift.clone())
    else:
        bias.add_(shift)


def _slice(module: nn.Module, name: str, axes: tuple[Tensor | None, ...], keep: Tensor, places: Places) -> None:
    path, _, leaf = name.rpartition(".")
    old = getattr(module.get_submodule(path), leaf)
    new = old.data
    for axis, ids in enumerate(axes):
        if ids is not None:
            kept = ((ids < 0) | keep[ids.clamp(min=0)]).nonzero().flatten()
            if len(kept) < len(ids):
                new = new.index_select(axis, kept.to(new.device))
    if new.shape != old.shape:
        fresh = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
        places[id(fresh)] = places.pop(id(old))
        for store, key in places[id(fresh)]:
            store[key] = fresh


def _places(module: nn.Module) -> Places:
    """Wherever a tensor stands: a tied one stays tied."""
    found: Places = {}
    for owner in module.modules():
        stores: tuple[dict[str, Any], ...] = (owner._parameters, owner._buffers)
        for store in stores:
            for key, value in store.items():
                found.setdefault(id(value), []).append((store, key))
    return found


def _resize(module: nn.Module, index: NeuronIndex, keep: Tensor) -> None:
    """Make the sizes that modules repeat in attributes true again."""
    for name, layer in index.layers.items():
        if not layer.shiftable:
            continue
        owner: Any = module.get_submodule(name)
        if layer.kind == "conv" and hasattr(owner, "out_channels"):
            cols = int(((layer.cols < 0) | keep[layer.cols.clamp(min=0)]).sum())
            rows = int(keep[layer.rows].sum())
            if owner.groups > 1:
                owner.groups = owner.groups * cols // len(layer.cols)
            owner.in_channels, owner.out_channels = cols, rows
    for owner in module.modules():
        for kind, attribute, tensor, axis in SIZES:
            value = getattr(owner, tensor, None)
            if _is_a(owner, kind) and isinstance(value, Tensor) and value.dim() > axis:
                setattr(owner, attribute, value.shape[axis])


def _is_a(owner: nn.Module, kind: type[nn.Module] | str) -> bool:
    """Whether a module is of a class; one given as text is compared by name, because its library may be absent."""
    return (
        f"{type(owner).__module__}.{type(owner).__qualname__}" == kind
        if isinstance(kind, str)
        else isinstance(owner, kind)
    )
