"""A Hugging Face config.json: the network it describes, what that takes and what it tells apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from surgery.errors import ModelFileError
from surgery.network.plain import parse
from surgery.sandbox import described

LONGEST = 4_000_000  # bytes: the names of very many classes
SIDE, CHANNELS = 4096, 1024  # pixels, planes: beyond it nothing is filled in
_NUMBER = re.compile(r"[0-9]{1,9}")  # of a class; str.isdigit has further digits, such as ²


def architecture(content: bytes, name: str) -> dict[str, Any]:
    """The image classifier of a config.json, as name and arguments; name: of the file.

    Raises:
        ModelFileError: it holds no JSON object.
    """
    advice = "Give the config.json that lies beside the weights."
    if len(content) > LONGEST:
        raise ModelFileError(f"{name} has {len(content):,} bytes, more than {LONGEST:,}.", advice)
    try:
        found = parse(content)
    except ValueError as error:
        raise ModelFileError(f"{name} is no JSON: {described(error)}.", advice) from error
    if not isinstance(found, dict):
        raise ModelFileError(f"{name} holds no configuration.", advice)
    return {"name": "hf/image-classification", "arguments": {"config": found}}


def input_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an image classifier of this configuration takes, normalised as the library's processors do by default."""
    size, channels = config.get("image_size"), config.get("num_channels", 3)
    if type(size) is not int or type(channels) is not int or not (0 < size <= SIDE and 0 < channels <= CHANNELS):
        return None
    half = [0.5] * channels
    return {"kind": "image", "shape": [channels, size, size], "mean": half, "std": half}


def classes_of(config: Mapping[str, Any]) -> list[str]:
    """The names of the classes in the order of the logits; [] where the configuration names none."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or not all(_NUMBER.fullmatch(str(key)) for key in labels):
        return []
    if not all(isinstance(name, (str, int, float)) for name in labels.values()):
        return []
    return [str(labels[key]) for key in sorted(labels, key=int)]
