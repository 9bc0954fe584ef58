"""The header of a safetensors file, checked before any library reads the file: names, types, shapes, places, text.

Layout: 8 bytes, the length of the header; the header, a JSON object; the bytes of the tensors without gaps. The entry
`__metadata__` maps texts to texts. No torch here: what is wrong is said before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surgery.errors import ModelFileError
from surgery.network.plain import parse, shown

LONGEST = 32_000_000  # bytes of a header: hundreds of thousands of tensors
AXES = 16
NAME = 500  # characters
METADATA = "__metadata__"
# Bytes of one value in the types that weights and counters have.
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
SIZES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_OTHERS = ("F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64", "C128")
_UPLOAD = "Upload it again."
_CAST = "Save its weights as float32, float16 or bfloat16."


def metadata_of(path: Path, name: str) -> dict[str, str]:
    """The texts in the header of a file whose every entry is in order; name: of the file, for messages.

    Raises:
        ModelFileError: the header or an entry of it is damaged or not supported; the message names the tensor.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST:
            raise ModelFileError(f"{name} has a header of {length:,} bytes, more than {LONGEST:,}.", _UPLOAD)
        text = file.read(length)
    if len(text) < length:
        raise ModelFileError(f"{name} is truncated: its header alone is longer.", _UPLOAD)
    try:
        header = parse(text)
    except ValueError as error:
        raise ModelFileError(
            f"{name} is truncated or damaged: its header is no JSON object: {error}.", _UPLOAD
        ) from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{name} is truncated or damaged: its header is no JSON object.", _UPLOAD)
    texts = header.pop(METADATA, {})
    if not isinstance(texts, dict) or not all(isinstance(value, str) for value in texts.values()):
        raise ModelFileError(
            f"{name} holds {METADATA!r}, which is not a list of texts but may be a tensor of that name.",
            "Rename the tensor and save the file again.",
        )
    places = [_place(name, tensor, about) for tensor, about in header.items()]
    _check_places(name, places, size - 8 - length)
    return texts


def _place(file: str, tensor: str, about: Any) -> tuple[int, int, str]:
    """Where a tensor lies, in bytes from the end of the header, if its entry is in order."""
    if not tensor or len(tensor) > NAME or not tensor.isprintable():
        raise ModelFileError(
            f"{file} holds a tensor of the name {shown(tensor)}, which is empty, too long or not printable.",
            "Rename the tensor and save the file again.",
        )
    what = f"{file} is truncated or damaged: its tensor {shown(tensor)}"
    if not isinstance(about, Mapping) or about.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"{what} is not described by type, shape and place.", _UPLOAD)
    kind, shape, place = about["dtype"], about["shape"], about["data_offsets"]
    if kind in _OTHERS:
        raise ModelFileError(
            f"{file} holds {shown(tensor)} as {kind}, a type that cannot be measured or changed.", _CAST
        )
    if not isinstance(kind, str) or kind not in SIZES:
        raise ModelFileError(f"{what} has the unknown type {shown(kind)}.", _CAST)
    if not _counts(shape) or len(shape) > AXES or not _counts(place) or len(place) != 2:
        raise ModelFileError(f"{what} has an impossible shape or place.", _UPLOAD)
    if math.prod(shape) * SIZES[kind] != place[1] - place[0]:
        raise ModelFileError(
            f"{what} has {place[1] - place[0]:,} bytes, which its shape and type do not need.", _UPLOAD
        )
    if 0 in shape and max(shape) > LONGEST:
        raise ModelFileError(f"{what} holds nothing, with an axis of {max(shape):,}.", _UPLOAD)
    return place[0], place[1], tensor


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and 0 <= one < 2**63 for one in values)


def _check_places(file: str, places: list[tuple[int, int, str]], size: int) -> None:
    """Refuse tensors that overlap, leave gaps, or lie outside the file."""
    at = 0
    for start, end, tensor in sorted(places):
        if start != at:
            raise ModelFileError(
                f"{file} is truncated or damaged: its tensor {shown(tensor)} does not begin where the one before ends.",
                _UPLOAD,
            )
        at = end
    if at != size:
        raise ModelFileError(
            f"{file} is truncated or damaged: its tensors need {at:,} bytes, it has {max(size, 0):,}.", _UPLOAD
        )
