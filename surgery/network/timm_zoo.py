"""timm's image models by name, with any number of classes and input channels.

Imports torch and timm only: an exported model carries this file as its definition.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported: nothing is downloaded

import timm
from torch import nn


def classifier(name: str, num_classes: int = 1000, in_chans: int = 3, **options: Any) -> nn.Module:
    """Build `name` of timm with random weights; nothing is downloaded; `options` go to timm's own constructor."""
    module: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=in_chans, exportable=True, **options
    )
    return module


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {name: partial(classifier, name) for name in timm.list_models()}
