"""A Hugging Face config.json: the network it describes, what that takes and what it tells apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from surgery.errors import ModelFileError


def architecture(content: bytes, name: str) -> dict[str, Any]:
    """The image classifier of a config.json, as name and arguments; name: of the file.

    Raises:
        ModelFileError: it holds no JSON object.
    """
    advice = "Give the config.json that lies beside the weights."
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{name} is no JSON: {error}.", advice) from error
    if not isinstance(found, dict):
        raise ModelFileError(f"{name} holds no configuration.", advice)
    return {"name": "hf/image-classification", "arguments": {"config": found}}


def input_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an image classifier of this configuration takes, normalised as the library's processors do by default."""
    size, channels = config.get("image_size"), config.get("num_channels", 3)
    if not isinstance(size, int) or not isinstance(channels, int):
        return None
    half = [0.5] * channels
    return {"kind": "image", "shape": [channels, size, size], "mean": half, "std": half}


def classes_of(config: Mapping[str, Any]) -> list[str]:
    """The names of the classes in the order of the logits; [] where the configuration names none."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or not all(str(key).isdigit() for key in labels):
        return []
    return [str(labels[key]) for key in sorted(labels, key=int)]
