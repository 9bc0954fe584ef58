"""What a model is: a module in eval mode, the architecture that rebuilds it, its input and outputs, its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surgery.errors import DataError
from surgery.network.index import NeuronIndex
from surgery.network.packed import Packing
from surgery.network.part import Part

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Architecture:
    """A constructor by name and its JSON arguments: ("torchvision/resnet18", {"num_classes": 10})."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InputSpec:
    """What one sample looks like to the model.

    shape: without the batch axis: (channels, height, width) or (features,).
    mean, std: per channel on the 0–1 scale, or per feature: the model sees (value − mean) / std.
    """

    kind: Literal["image", "table"]
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Origin:
    """Where weights come from, in the words of whoever brought them; "" = not said."""

    name: str
    licence: str = ""
    source: str = ""  # an address, a paper, a person


@dataclass(frozen=True)
class Support:
    """How much of the product works on a network, and the step that stopped the rest."""

    level: Literal["full", "gate", "inspect"]
    reason: str = ""


@dataclass(frozen=True)
class Model:
    """A network that can be seen, measured and operated on. Operations never change one: they make a new one.

    Neurons are readable for "full" and "gate" support; `index` is None only for "inspect".
    """

    module: nn.Module  # eval mode, fp32, on the CPU at rest
    architecture: Architecture
    input: InputSpec
    task: Task
    classes: tuple[str, ...]  # the labels of the logits, or the name of the one target
    index: NeuronIndex | None
    support: Support
    origins: tuple[Origin, ...] = ()  # of all weights in it, each once
    held: Mapping[str, Packing] = field(default_factory=dict)  # weights in few bits, by name in the state_dict
    parts: tuple[Part, ...] = ()  # of the model as it was loaded: operations take them from their inputs alone

    def __call__(self, x: Tensor) -> Tensor:
        """Logits float[batch, classes] of x: float[batch, *input.shape]."""
        out = self.module(x)
        return out if isinstance(out, Tensor) else out[0]

    def outputs_of(self, classes: Sequence[str]) -> Tensor:
        """int64[len(classes)]: the output that stands for each class of a dataset, by name, else by position.

        Raises:
            DataError: they are other classes than the model's.
        """
        if set(classes) <= set(self.classes):
            return torch.tensor([self.classes.index(name) for name in classes])
        if len(classes) == len(self.classes):
            return torch.arange(len(classes))
        raise DataError(
            f"The model has {len(self.classes)} classes, the dataset has {len(classes)} others.",
            "Choose a dataset with the model's classes.",
        )
