"""torchvision's classification models by name, with the two things users change most: classes and input channels.

Imports torch and torchvision only: an exported model carries this file as its definition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn

# Without these the two draw slow random weights with a warning, and carry heads that only training uses.
_QUIET: dict[str, Any] = {"init_weights": False, "aux_logits": False}
_DEFAULTS: dict[str, dict[str, Any]] = {"googlenet": _QUIET, "inception_v3": _QUIET}


def classifier(name: str, num_classes: int = 1000, in_channels: int = 3, **options: Any) -> nn.Module:
    """Build `name` of torchvision with random weights; `options` go to torchvision's own constructor."""
    options = {**_DEFAULTS.get(name, {}), **options}
    module: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    if in_channels != 3:
        _replace_input(module, in_channels)
    return module


def _replace_input(module: nn.Module, channels: int) -> None:
    """Let the first convolution read `channels` planes; torchvision's are all made for 3."""
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    first.in_channels = channels
    first.weight = nn.Parameter(torch.empty(first.out_channels, channels, *first.kernel_size))
    first.reset_parameters()


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    name: partial(classifier, name) for name in torchvision.models.list_models(module=torchvision.models)
}
