"""timm's image models by name, with any number of classes and input channels.

Imports torch and timm (with its hub) only: an exported model carries this file as its definition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
from huggingface_hub import constants as hub
from torch import nn

REFUSED = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}  # they read files or addresses


def classifier(name: str, num_classes: int = 1000, in_chans: int = 3, **options: Any) -> nn.Module:
    """Build `name` of timm with random weights; nothing is downloaded; `options` go to timm's own constructor.

    Raises:
        ValueError: an option that would read a file or an address.
    """
    if refused := REFUSED & options.keys():
        raise ValueError(f"{', '.join(sorted(refused))} would read weights from elsewhere")
    hub.HF_HUB_OFFLINE = True  # here: as an environment variable it is read once, by whoever imports the library first
    module: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=in_chans, exportable=True, **options
    )
    return module


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {name: partial(classifier, name) for name in timm.list_models()}
