"""Rebuild a saved model: construct it, set the sizes that surgery changed, put every tensor in place.

An exported model carries this file as `loader.py`; it needs torch, safetensors and what `definition.py` imports:

    from loader import load
    model = load("folder")                      # eval mode; see architecture.json for input, classes, normalisation
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

PARTS = ("codes", "bits", "exponent", "layout")  # of a weight in few bits


def load(folder: str | Path = Path(__file__).parent) -> nn.Module:
    """Rebuild the model exported to `folder`. Its `definition.py` is executed: load only what you trust."""
    folder = Path(folder)
    description = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    file = folder.resolve() / "definition.py"
    spec = importlib.util.spec_from_file_location(str(file), file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{folder} has no definition.py")
    definition = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = definition  # dataclasses look for the module that they stand in
    spec.loader.exec_module(definition)
    where = description["definition"]
    module: nn.Module = vars(definition)[where["table"]][where["key"]](**description["arguments"])
    put(module, unpacked(load_file(folder / "model.safetensors")), description["attributes"], description["tied"])
    return module.eval()


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a file under their own names, those of few bits decoded: `NAME.codes` and its companions."""
    packed = sorted(name.removesuffix(".codes") for name in tensors if name.endswith(".codes"))
    own = {f"{name}.{part}" for name in packed for part in PARTS}
    found = {name: tensor for name, tensor in tensors.items() if name not in own}
    return {**found, **{name: decoded(*(tensors[f"{name}.{part}"] for part in PARTS)) for name in packed}}


def decoded(codes: Tensor, bits: Tensor, exponent: Tensor, layout: Tensor) -> Tensor:
    """The float32 weight whose rows are whole numbers of `bits` bits times 2^exponent.

    codes: uint8, the bits of each number + 2^(bits − 1), lowest first, rows of equal bits together, fewest first.
    bits: uint8[rows], 0–16; exponent: float16[rows]; layout: the axis of the rows, then the sizes with it in front.

    Raises:
        ValueError: they do not belong together.
    """
    axis, count, *sizes = layout.tolist()
    each, widths = int(torch.Size(sizes).numel()), bits.long()
    if len(bits) != count or len(exponent) != count or bool((widths > 16).any()):
        raise ValueError("bits and exponents do not fit the layout")
    if -(-int(widths.sum()) * each // 8) != len(codes):
        raise ValueError("the codes are not as long as bits and layout say")
    stream = ((codes.long()[:, None] >> torch.arange(8)) & 1).flatten()
    flat, at = torch.zeros(count, each), 0
    for width in sorted(set(widths.tolist()) - {0}):
        rows = (widths == width).nonzero()[:, 0]
        end = at + len(rows) * each * width
        numbers = (stream[at:end].view(len(rows), each, width) << torch.arange(width)).sum(2) - 2 ** (width - 1)
        flat[rows] = numbers.float() * torch.exp2(exponent[rows].double()).float()[:, None]
        at = end
    return flat.view(count, *sizes).movedim(0, axis).contiguous()


def put(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    attributes: Mapping[str, Mapping[str, Any]],
    tied: Mapping[str, str],
) -> None:
    """Give a freshly constructed module its recorded attributes and tensors, in place.

    attributes: module path -> {attribute: value}; only what exists already, with the same type.
    tied: name in the state_dict -> the name whose tensor it shares.

    Raises:
        ValueError: a name that the module does not have, or a tensor that is missing.
    """
    missing = module.state_dict().keys() - tensors.keys() - tied.keys()
    if missing:
        raise ValueError(f"no tensor for {', '.join(sorted(missing))}")
    for path, values in attributes.items():
        for name, value in values.items():
            _set_attribute(_submodule(module, path), f"{path}.{name}", value)
    for name, tensor in tensors.items():
        _set_tensor(module, name, tensor)
    for alias, name in tied.items():
        owner, _, leaf = name.rpartition(".")
        _set_tensor(module, alias, getattr(_submodule(module, owner), leaf))


def _submodule(module: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path."""
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise ValueError(f"the architecture has no module {path!r}") from error


def _set_attribute(owner: nn.Module, name: str, value: Any) -> None:
    """Set a number, text or tuple that the constructor made with another value."""
    leaf = name.rpartition(".")[2]
    current = vars(owner).get(leaf)
    value = tuple(value) if isinstance(value, list) else value
    if type(current) is not type(value) or leaf.startswith("_"):
        raise ValueError(f"the architecture has no attribute {name!r} of type {type(value).__name__}")
    setattr(owner, leaf, value)


def _set_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor where the module has a parameter, a buffer, or room for one (`bias=None`)."""
    path, _, leaf = name.rpartition(".")
    owner = _submodule(module, path)
    current = getattr(owner, leaf, "absent")
    if leaf in dict(owner.named_buffers(recurse=False)):
        setattr(owner, leaf, tensor)
    elif current is None or isinstance(current, nn.Parameter):
        parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, tensor.is_floating_point())
        setattr(owner, leaf, parameter)
    else:
        raise ValueError(f"the architecture has no tensor {name!r}")
