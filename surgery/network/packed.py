"""Weights in few bits, as bytes: for every output row its own number of bits and its own exponent.

A row's values are integers q of b bits times 2^e. On disk one weight is four tensors beside each other: `NAME.codes`
uint8, the bits of q + 2^(b−1), lowest bit first, rows of equal b together, fewest bits first; `NAME.bits` uint8[out];
`NAME.exponent` float16[out]; `NAME.layout` int32: the axis of the rows, then the sizes with that axis in front.
Needs torch alone: an exported model carries this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 16  # bits
PARTS = ("codes", "bits", "exponent", "layout")


@dataclass(frozen=True)
class Packing:
    """How a weight is held. bits: int64[out], 0–16; exponent: float32[out], as float16 holds it; axis: of the rows."""

    bits: Tensor
    exponent: Tensor
    axis: int = 0


def encode(weight: Tensor, packing: Packing) -> dict[str, Tensor]:
    """The four tensors of a weight, by their last names.

    Raises:
        ValueError: a value is not on its row's grid, so that packing would change it.
    """
    rows = weight.detach().movedim(packing.axis, 0)
    flat = rows.reshape(len(rows), -1).double()
    half = _half(packing.bits)
    steps = flat / torch.exp2(packing.exponent.double())[:, None]
    whole = steps.round()
    off = ((steps - whole).abs() > 1e-4 + 1e-6 * whole.abs()).any(1)  # float32 is no finer
    outside = ((whole < -half[:, None]) | (whole > (half - 1).clamp(min=0)[:, None])).any(1)
    if bool((off | outside).any()):
        raise ValueError(f"row {int((off | outside).nonzero()[0])} is not on the grid of its bits and exponent")
    streams = []
    for bits in packing.bits.unique().tolist():
        if bits:
            codes = (whole[packing.bits == bits] + 2 ** (bits - 1)).long()
            streams.append(((codes[..., None] >> torch.arange(bits)) & 1).flatten())
    stream = torch.cat(streams) if streams else torch.zeros(0, dtype=torch.long)
    stream = torch.cat([stream, stream.new_zeros(-len(stream) % 8)]).view(-1, 8)
    return {
        "codes": (stream << torch.arange(8)).sum(1).to(torch.uint8),
        "bits": packing.bits.to(torch.uint8),
        "exponent": packing.exponent.half(),
        "layout": torch.tensor([packing.axis, *rows.shape], dtype=torch.int32),
    }


def decode(parts: Mapping[str, Tensor]) -> tuple[Tensor, Packing]:
    """The float32 weight and how it is held, from its four tensors.

    Raises:
        ValueError: they do not belong together.
    """
    axis, count, *sizes = parts["layout"].tolist()
    bits, exponent = parts["bits"].long(), parts["exponent"].float()
    each = int(torch.Size(sizes).numel())
    if len(bits) != count or len(exponent) != count or bool((bits > MOST).any()):
        raise ValueError("bits and exponents do not fit the layout")
    stream = ((parts["codes"].long()[:, None] >> torch.arange(8)) & 1).flatten()
    if -(-int(bits.sum()) * each // 8) != len(parts["codes"]):
        raise ValueError("the codes are not as long as bits and layout say")
    flat, at = torch.zeros(count, each), 0
    for width in bits.unique().tolist():
        rows = (bits == width).nonzero()[:, 0]
        if width:
            end = at + len(rows) * each * width
            codes = (stream[at:end].view(len(rows), each, width) << torch.arange(width)).sum(2)
            flat[rows] = (codes - 2 ** (width - 1)).float() * torch.exp2(exponent[rows])[:, None]
            at = end
    return flat.view(count, *sizes).movedim(0, axis).contiguous(), Packing(bits, exponent, axis)


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a file under their own names, packed weights decoded."""
    packed = sorted(name.removesuffix(".codes") for name in tensors if name.endswith(".codes"))
    parts = {f"{name}.{part}" for name in packed for part in PARTS}
    found = {name: tensor for name, tensor in tensors.items() if name not in parts}
    return {**found, **{name: decode({part: tensors[f"{name}.{part}"] for part in PARTS})[0] for name in packed}}


def _half(bits: Tensor) -> Tensor:
    """float64: 2^(b−1), the number of steps below 0; 0 for no bits."""
    return torch.where(bits > 0, torch.exp2(bits.double() - 1), 0.0)
