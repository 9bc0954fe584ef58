"""What a model costs wherever it runs: parameters, bytes on disk, multiply-accumulates of one sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from surgery.network.model import Model
from surgery.network.packed import stored

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


def parameters(model: Model) -> int:
    """How many trainable numbers the model has; a tied tensor counts once."""
    return sum(tensor.numel() for _, tensor in _distinct(model.module.named_parameters()))


def bytes_of(model: Model) -> int:
    """Bytes of a safetensors file with the model's tensors (buffers too), each storage once, packed as stored."""
    entries, end = {}, 0
    tensors = sorted(
        stored(dict(_distinct(model.module.state_dict().items())), model.held).items(),
        key=lambda pair: (-pair[1].element_size(), pair[0]),
    )
    for name, tensor in tensors:  # in the order of the format: wide types first
        dtype = _DTYPES.get(tensor.dtype, str(tensor.dtype))
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    header = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-header // 8) * 8 + end  # length field, header padded to 8 bytes, data


def macs(model: Model) -> int:
    """Multiply-accumulates of one sample: convolutions, linear layers, matrix products and attention.

    Counted while running, so functional code counts too. Additions, normalisations and activations do not.
    """
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _plain_attention(), counter:
        model(torch.zeros(1, *model.input.shape, device=device))
    return int(counter.get_total_flops()) // 2  # a flop counter counts multiplication and addition apart


def macs_per_layer(model: Model) -> dict[str, int]:
    """Multiply-accumulates of one sample by module path; a module's own include those of the modules in it."""
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _plain_attention(), counter:
        model.module(torch.zeros(1, *model.input.shape, device=device))
    root = f"{type(model.module).__name__}."
    counts = counter.get_flop_counts()
    return {name.removeprefix(root): sum(own.values()) // 2 for name, own in counts.items() if name.startswith(root)}


def _distinct(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor under the first of its names; tied tensors share memory, offset and shape."""
    seen = set()
    for name, tensor in named:
        key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        if key not in seen:
            seen.add(key)
            yield name, tensor


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as its parts: fused forms count as nothing."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
