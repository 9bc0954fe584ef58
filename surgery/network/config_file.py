"""What a Hugging Face config.json says besides the network: what the network takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from surgery.errors import ModelFileError


def read(path: Path) -> dict[str, Any]:
    """The content of a config.json.

    Raises:
        ModelFileError: it holds no JSON object.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelFileError(
            f"{path} is no JSON: {error}.", "Name the config.json that lies beside the weights."
        ) from error
    if not isinstance(found, dict):
        raise ModelFileError(f"{path} holds no configuration.", "Name the config.json that lies beside the weights.")
    return found


def input_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """What an image classifier of this configuration takes, normalised as the library's processors do by default."""
    size, channels = config.get("image_size"), config.get("num_channels", 3)
    if not isinstance(size, int) or not isinstance(channels, int):
        return None
    half = [0.5] * channels
    return {"kind": "image", "shape": [channels, size, size], "mean": half, "std": half}


def classes_of(config: dict[str, Any]) -> list[str]:
    """The names of the classes in the order of the logits; [] where the configuration names none."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or not all(str(key).isdigit() for key in labels):
        return []
    return [str(labels[key]) for key in sorted(labels, key=int)]
