"""Hugging Face classifiers from the content of their `config.json`, with random weights.

The configuration is data: it names one of the types that transformers itself defines, with options that
`hf_config.checked` let through. Whatever points to code, kernels or weights elsewhere is left out here again, at any
depth, for an exported copy of this file, and the library is told to stay offline. Imports torch and
transformers (with its hub) only: an exported model carries this file as its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import transformers
from huggingface_hub import constants as hub
from torch import Tensor, nn

# What is not of the network, or would make transformers look elsewhere.
LEFT_OUT = {
    *("auto_map", "custom_pipelines", "architectures", "_name_or_path", "name_or_path", "transformers_version"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"),
    *("_experts_implementation", "_experts_implementation_internal", "quantization_config"),
    *("use_pretrained_backbone", "use_kernels", "kernel_config"),
}
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
    hub.HF_HUB_OFFLINE = True  # here: as an environment variable it is read once, by whoever imports the library first
    given = cleaned(config)
    settings = transformers.AutoConfig.for_model(given.pop("model_type"), **given)
    settings.use_cache = False
    settings.architectures = []  # where a type has several classifiers, the first: the library fails on None
    build: Callable[..., nn.Module] = KINDS[kind].from_config
    module = build(settings, trust_remote_code=False)
    module.register_forward_hook(_logits)
    return module


def cleaned(value: Any) -> Any:
    """A configuration without what is in `LEFT_OUT`, at any depth."""
    if isinstance(value, Mapping):
        return {name: cleaned(one) for name, one in value.items() if name not in LEFT_OUT}
    return [cleaned(one) for one in value] if isinstance(value, list) else value


def _logits(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Tensor:
    """A hook: of all that a classifier gives, its logits."""
    logits: Tensor = output.logits
    return logits


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {kind: partial(classifier, kind) for kind in KINDS}
