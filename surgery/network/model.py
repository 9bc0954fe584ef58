"""What a model is: a module in eval mode, the architecture that rebuilds it, its input and outputs, its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surgery.errors import DataError
from surgery.matching import mismatch
from surgery.network import outputs
from surgery.network.index import NeuronIndex
from surgery.network.packed import Packing
from surgery.network.part import Part
from surgery.network.precision import Format

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Architecture:
    """A constructor by name and its JSON arguments: ("torchvision/resnet18", {"num_classes": 10}).

    source: SHA-256 of the operator's file that defines a custom one; "" = whatever file is given now.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class InputSpec:
    """What one sample looks like to the model.

    shape: without the batch axis: (channels, height, width), (features,), or (context,) characters of a text.
    mean, std: per channel on the 0–1 scale, or per feature: the model sees (value − mean) / std. Empty for a text.
    alphabet: of a text, what the numbers it sees stand for.
    """

    kind: Literal["image", "table", "text"]
    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    alphabet: tuple[str, ...] = ()

    def example(self, samples: int, device: str = "cpu", seed: int = 0) -> Tensor:
        """float[samples, *shape] of noise, or int64[samples, context] random characters; always the same."""
        generator = torch.Generator().manual_seed(seed)
        if self.kind == "text":
            return torch.randint(len(self.alphabet), (samples, *self.shape), generator=generator).to(device)
        return torch.randn((samples, *self.shape), generator=generator).to(device)


@dataclass(frozen=True)
class Origin:
    """Where weights come from, in the words of whoever brought them; "" = not said."""

    name: str
    licence: str = ""
    source: str = ""  # an address, a paper, a person
    file: str = ""  # what was brought: its name, size and number format


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

    module: nn.Module  # eval mode, float32 whatever the file holds, on the CPU at rest
    architecture: Architecture
    input: InputSpec
    task: Task
    classes: tuple[str, ...]  # the labels of the logits, or the name of the one target
    index: NeuronIndex | None
    support: Support
    origins: tuple[Origin, ...] = ()  # of all weights in it, each once
    held: Mapping[str, Packing] = field(default_factory=dict)  # weights in few bits, by name in the state_dict
    precision: Mapping[str, Format] = field(default_factory=dict)  # tensors that their file holds in another format
    parts: tuple[Part, ...] = ()  # of the model as it was loaded: operations take them from their inputs alone
    output: str = ""  # the path of the prediction in what the module returns, see `outputs`

    def __call__(self, x: Tensor) -> Tensor:
        """Logits float[batch, classes] of x: float[batch, *input.shape]; of a text, for what follows its end."""
        return self.answers(self.module(x))

    def answers(self, out: Any) -> Tensor:
        """float[batch, classes]: the logits in what the module gave; where it answers at every position, at the last.

        out: float[batch, classes], [batch, positions, classes], or several outputs with such a prediction.
        """
        found = outputs.pick(out, self.output)
        return found[:, -1] if found.dim() == 3 else found

    def lessons(self, x: Tensor, y: Tensor, out: Any) -> tuple[Tensor, Tensor]:
        """What a step of training compares: the arguments of `lessons`, with out: whatever the module returned."""
        return lessons(x, y, outputs.pick(out, self.output))

    def outputs_of(self, classes: Sequence[str]) -> Tensor:
        """int64[len(classes)]: the output that stands for each class of a dataset, by name.

        Of a regression, whose one target may have any name, the output itself.

        Raises:
            DataError: the model lacks one of them.
        """
        if self.task == "regression" and len(classes) == len(self.classes):
            return torch.arange(len(classes))
        if not set(classes) <= set(self.classes):
            raise DataError(*mismatch(classes, self.classes))
        return torch.tensor([self.classes.index(name) for name in classes], dtype=torch.int64)


def lessons(x: Tensor, y: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """What a step of training compares: outputs float[m, classes], and int64[m] which are right (or the targets).

    m = batch; of a model that answers at every position of a text, batch · positions, in the order of samples: at
    each position the next character is right. x: what it saw; y: what is right for the whole sample.
    """
    if prediction.dim() != 3:
        return prediction, y
    return prediction.flatten(0, 1), torch.cat([x[:, 1:], y[:, None]], 1).flatten()
