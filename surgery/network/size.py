"""How large a model's file is, without writing it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from surgery.network.model import Model
from surgery.network.packed import stored
from surgery.network.precision import said

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def bytes_of(model: Model) -> int:
    """Bytes of a safetensors file with the model's tensors (buffers too), each storage once, packed as stored."""
    entries, end = {}, 0
    tensors = sorted(
        stored(dict(distinct(model.module.state_dict().items())), model.held, model.precision).items(),
        key=lambda pair: (-pair[1].element_size(), pair[0]),
    )
    for name, tensor in tensors:  # in the order of the format: wide types first
        dtype = _DTYPES.get(tensor.dtype, str(tensor.dtype))
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    header = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-header // 8) * 8 + end  # length field, header padded to 8 bytes, data


def bits_of(model: Model) -> float:
    """Bits for each parameter in the file, on average."""
    own = dict(distinct(model.module.named_parameters(remove_duplicate=False)))
    tensors = stored({name: tensor.detach() for name, tensor in own.items()}, model.held, model.precision)
    count = sum(tensor.numel() for tensor in own.values())
    return 8 * sum(tensor.nbytes for tensor in tensors.values()) / count if count else 0.0


def stored_as(model: Model) -> str:
    """The number formats of the model's tensors in its file, the commonest first."""
    return said(stored(dict(distinct(model.module.state_dict().items())), model.held, model.precision))


def weight_bytes(models: Iterable[Model]) -> int:
    """Bytes that the tensors of several models take in memory, each that they share once."""
    named = ((f"{place}.{name}", t) for place, one in enumerate(models) for name, t in one.module.state_dict().items())
    return sum(tensor.nbytes for _, tensor in distinct(named))


def distinct(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor under the first of its names; tied tensors share memory, offset and shape."""
    seen = set()
    for name, tensor in named:
        key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        if key not in seen:
            seen.add(key)
            yield name, tensor
