"""Weights in few bits, as bytes: for every output row its own number of bits and its own exponent.

A row's values are integers q of b bits times 2^e. On disk one weight is four tensors beside each other: `NAME.codes`
uint8, the bits of q + 2^(b−1), lowest bit first, rows of equal b together, fewest bits first; `NAME.bits` uint8[out];
`NAME.exponent` float16[out]; `NAME.layout` int32: the axis of the rows, then the sizes with that axis in front.
What reads them back is in `restore`, which an exported model carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.network.precision import Format, narrowed

MOST = 16  # bits


@dataclass(frozen=True)
class Packing:
    """How a weight is held. bits: int64[out], 0–16; exponent: float32[out], as float16 holds it; axis: of the rows."""

    bits: Tensor
    exponent: Tensor
    axis: int = 0


def encode(weight: Tensor, packing: Packing) -> dict[str, Tensor]:
    """The four tensors of a weight, by their last names.

    Raises:
        ValueError: a value is not on its row's grid, so that packing would change it, or there are other rows.
    """
    rows = weight.detach().movedim(packing.axis, 0)
    if len(rows) != len(packing.bits):
        raise ValueError(f"{len(rows)} rows do not fit {len(packing.bits)} bits")
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


def packings(tensors: Mapping[str, Tensor]) -> dict[str, Packing]:
    """How the packed weights of a file are held, by name."""
    names = [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]
    return {
        name: Packing(
            tensors[f"{name}.bits"].long(), tensors[f"{name}.exponent"].float(), int(tensors[f"{name}.layout"][0])
        )
        for name in names
    }


def stored(
    state: Mapping[str, Tensor], held: Mapping[str, Packing], precision: Mapping[str, Format] | None = None
) -> dict[str, Tensor]:
    """The tensors of a state_dict as they are written: those packed whose values are on the grid of their packing.

    A weight that was changed since (by training, or by a cut) is written whole, in the format of `precision`.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        packing = held.get(name)
        try:
            parts = None if packing is None else encode(tensor, packing)
        except ValueError:
            parts = None
        whole = {name: narrowed(name, tensor, precision or {})}
        found |= whole if parts is None else {f"{name}.{part}": value for part, value in parts.items()}
    return found


def _half(bits: Tensor) -> Tensor:
    """float64: 2^(b−1), the number of steps below 0; 0 for no bits."""
    return torch.where(bits > 0, torch.exp2(bits.double() - 1), 0.0)
