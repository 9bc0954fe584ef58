"""Rebuild a saved model: construct it, set the sizes that surgery changed, put every tensor in place.

An exported model carries this file as `loader.py`; it needs torch, safetensors and what `definition.py` imports:

    from loader import load
    model = load("folder")                      # eval mode; see architecture.json for input, classes, normalisation
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

PARTS = ("codes", "bits", "exponent", "layout")  # of a weight in few bits
EXPANSION = 512  # decoded weights may be at most this many times larger than their file …
SLACK = 64 << 20  # … and so many bytes: rows of no bits take none


def load(folder: str | Path = Path(__file__).parent) -> nn.Module:
    """Rebuild the model exported to `folder`, in float32 whatever the file holds, as it was measured.

    Its `definition.py` is executed: load only what you trust.
    """
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
    tensors = widened(unpacked(load_file(folder / "model.safetensors")), description.get("precision", ()))
    put(module, tensors, description["attributes"], description["tied"])
    return module.eval()


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a file under their own names, those of few bits decoded: `NAME.codes` and its companions.

    Raises:
        ValueError: a companion is missing or they do not belong together; or they describe far more weights than the
            file's size explains (rows of no bits need no bytes), or values that are not finite.
    """
    packed = sorted(name.removesuffix(".codes") for name in tensors if name.endswith(".codes"))
    own = {f"{name}.{part}" for name in packed for part in PARTS}
    if missing := own - tensors.keys():
        raise ValueError(f"a weight in few bits lacks its tensor {min(missing)!r}")
    found = {name: tensor for name, tensor in tensors.items() if name not in own}
    left = EXPANSION * sum(tensor.nbytes for tensor in tensors.values()) + SLACK
    for name in packed:
        codes, bits, exponent, layout = (tensors[f"{name}.{part}"] for part in PARTS)
        try:
            left -= 4 * _rows_of(bits, exponent, layout)[1].numel()
            if left < 0:
                raise ValueError("it describes far more weights than the file's size explains")
            found[name] = decoded(codes, bits, exponent, layout)
        except ValueError as error:
            raise ValueError(f"the weight in few bits {name!r} cannot be decoded: {error}") from error
    return found


def widened(tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """The tensors with those of these names, which the file holds in another format, as float32, to compute with."""
    return {name: tensor.float() if name in names else tensor for name, tensor in tensors.items()}


def _rows_of(bits: Tensor, exponent: Tensor, layout: Tensor) -> tuple[int, torch.Size]:
    """The axis of the rows and the sizes with that axis in front, if they can be those of a weight."""
    numbers = (bits, torch.uint8), (exponent, torch.float16), (layout, torch.int32)
    if any(tensor.dim() != 1 or tensor.dtype != wanted for tensor, wanted in numbers):
        raise ValueError("bits, exponents or layout are not lists of the types that are written")
    axis, *sizes = layout.tolist() or [-1]
    if not 0 <= axis < len(sizes) <= 8 or min(sizes) < 0:
        raise ValueError(f"the layout {layout.tolist()[:10]} is none")
    if len(bits) != sizes[0] or len(exponent) != sizes[0] or bool((bits > 16).any()):
        raise ValueError("bits and exponents do not fit the layout")
    if not math.prod(sizes) < 2**40:
        raise ValueError("the layout has impossible sizes")
    return axis, torch.Size(sizes)


def decoded(codes: Tensor, bits: Tensor, exponent: Tensor, layout: Tensor) -> Tensor:
    """The float32 weight whose rows are whole numbers of `bits` bits times 2^exponent.

    codes: uint8, the bits of each number + 2^(bits − 1), lowest first, rows of equal bits together, fewest first.
    bits: uint8[rows], 0–16; exponent: float16[rows]; layout: the axis of the rows, then the sizes with it in front.

    Raises:
        ValueError: they do not belong together, or a value is not finite.
    """
    axis, sizes = _rows_of(bits, exponent, layout)
    count, each, widths = sizes[0], math.prod(sizes[1:]), bits.long()
    if codes.dim() != 1 or codes.dtype != torch.uint8 or -(-int(widths.sum()) * each // 8) != len(codes):
        raise ValueError("the codes are not as long as bits and layout say")
    stream = ((codes[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()
    flat, at = torch.zeros(count, each), 0
    for width in sorted(set(widths.tolist()) - {0}):
        rows = (widths == width).nonzero()[:, 0]
        end = at + len(rows) * each * width
        digits = stream[at:end].view(len(rows), each, width)
        numbers = torch.full((len(rows), each), -(2 ** (width - 1)), dtype=torch.int32)
        for place in range(width):
            numbers += digits[:, :, place].int() << place
        flat[rows] = numbers.float() * torch.exp2(exponent[rows].double()).float()[:, None]
        at = end
    if not bool(flat.isfinite().all()):
        raise ValueError("it holds values that are not finite")
    return flat.view(sizes).movedim(0, axis).contiguous()


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
        raise ValueError(f"no tensor for {', '.join(sorted(missing)[:5])}")
    for path, values in attributes.items():
        for name, value in values.items():
            _set_attribute(_submodule(module, path), f"{path}.{name}", value)
    for name, tensor in tensors.items():
        _set_tensor(module, name, tensor)
    for alias, name in tied.items():
        if name not in tensors:
            raise ValueError(f"{alias!r} is tied to {name!r}, which is no tensor of the file")
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
    current = {**owner._parameters, **owner._buffers}.get(leaf, owner)
    if current is owner:
        raise ValueError(f"the architecture has no tensor {name!r}")
    if isinstance(current, Tensor) and current.dim() != tensor.dim():
        raise ValueError(f"the tensor {name!r} has {tensor.dim()} axes, the architecture {current.dim()}")
    if leaf in owner._buffers:
        setattr(owner, leaf, tensor)
    else:
        parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, tensor.is_floating_point())
        setattr(owner, leaf, parameter)
