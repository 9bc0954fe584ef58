"""The number format of weights as their file holds them.

Everything is computed in float32. A tensor that was brought as float16, bfloat16 or float64 is written in that format
again, and what is measured are the values as written.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from surgery.network.model import Model

Format = Literal["float16", "bfloat16", "float64"]
FORMATS: Mapping[Format, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
FEW = "few bits"
_OTHERS: Mapping[torch.dtype, Format] = {kind: name for name, kind in FORMATS.items()}
_NAMES: Mapping[torch.dtype, str] = {**_OTHERS, torch.float32: "float32"}


def formats_of(tensors: Mapping[str, Tensor]) -> dict[str, Format]:
    """Tensor name -> its format, of those that are held in another one than float32."""
    return {name: _OTHERS[tensor.dtype] for name, tensor in tensors.items() if tensor.dtype in _OTHERS}


def narrowed(name: str, tensor: Tensor, precision: Mapping[str, Format]) -> Tensor:
    """A tensor in the format that `precision` (tensor name -> format) has for it.

    What a smaller format cannot hold (beyond 65,504 in float16) stays float32.
    """
    if name not in precision or tensor.dtype != torch.float32:
        return tensor
    found = tensor.to(FORMATS[precision[name]])
    return found if bool(found.isfinite().all()) else tensor


def as_stored(model: Model) -> Model:
    """The model with the values that its file will hold, so that what is measured is what is stored."""
    from surgery.network.packed import stored

    state = {name: tensor for name, tensor in model.module.state_dict().items() if name in model.precision}
    written = stored(state, model.held, model.precision)
    rounded = {name: written[name].to(tensor.dtype) for name, tensor in state.items() if name in written}
    changed = {name: tensor for name, tensor in rounded.items() if not torch.equal(tensor, state[name])}
    if not changed:
        return model
    module = copy.deepcopy(model.module)
    own = module.state_dict()
    with torch.no_grad():
        for name, tensor in changed.items():
            own[name].copy_(tensor)
    return replace(model, module=module)


def kept_as(model: Model, kind: Format | Literal["float32"]) -> Model:
    """The model with every float32 tensor of its state_dict to be stored as `kind`."""
    names = [name for name, tensor in model.module.state_dict().items() if tensor.dtype == torch.float32]
    return as_stored(replace(model, precision={} if kind == "float32" else dict.fromkeys(names, kind)))


def inside(prefix: str, precision: Mapping[str, Format]) -> dict[str, Format]:
    """The formats of a network's tensors when it lies in another one at `prefix`."""
    return {f"{prefix}{name}": kind for name, kind in precision.items()}


def said(tensors: Mapping[str, Tensor]) -> str:
    """The formats in which tensors are stored, the commonest first: `float16`, `few bits, float32`.

    tensors: as `packed.stored` gives them.
    """
    values: Counter[str] = Counter()
    for name, tensor in tensors.items():
        if name.endswith(".codes"):
            values[FEW] += 8 * tensor.numel()
        elif tensor.dtype in _NAMES:
            values[_NAMES[tensor.dtype]] += 0 if _companion(name, tensors) else tensor.numel()
    return ", ".join(kind for kind, count in values.most_common() if count) or "float32"


def _companion(name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a tensor belongs to a weight in few bits."""
    return f"{name.rpartition('.')[0]}.codes" in tensors
