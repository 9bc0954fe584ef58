"""Hugging Face classifiers from the content of their `config.json`, with random weights.

The configuration is data: it names one of the types that transformers itself defines. Code that a file points to
(`auto_map`) is never loaded. Imports torch and transformers only: an exported model carries this file as its
definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import transformers
from torch import Tensor, nn

# What is not of the network, or would make transformers look elsewhere.
LEFT_OUT = {"auto_map", "model_type", "architectures", "_name_or_path", "transformers_version", "quantization_config"}
KINDS = {
    "image-classification": transformers.AutoModelForImageClassification,
    "sequence-classification": transformers.AutoModelForSequenceClassification,
}


def classifier(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a classifier of images or token sequences; config: what its `config.json` holds.

    Raises:
        ValueError: the configuration names no type, or one that has no such classifier.
    """
    if "model_type" not in config:
        raise ValueError("config names no model_type")
    given = {name: value for name, value in config.items() if name not in LEFT_OUT}
    settings = transformers.AutoConfig.for_model(config["model_type"], **given)
    settings.use_cache = False
    build: Callable[..., nn.Module] = KINDS[kind].from_config
    module = build(settings, trust_remote_code=False)
    module.register_forward_hook(_logits)
    return module


def _logits(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Tensor:
    """A hook: of all that a classifier gives, its logits."""
    logits: Tensor = output.logits
    return logits


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {kind: partial(classifier, kind) for kind in KINDS}
