"""A plain multi-layer perceptron by its sizes: linear layers with one activation between them.

The names of the linear layers can be chosen, so that the weights of somebody's own `fc1, fc2, fc3` network fit without
renaming. Imports torch only: an exported model carries this file as its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class MLP(nn.Module):
    """features -> hidden -> … -> outputs.

    sizes: units of every layer, the input first, as in [30, 64, 32, 2].
    names: dotted module paths of the linear layers; by default "0", "2", "4" …, as nn.Sequential has them.

    Raises:
        ValueError: fewer than two sizes, a size below 1, an unknown activation, or names that do not fit.
    """

    def __init__(
        self, sizes: Sequence[int], activation: str = "relu", *, bias: bool = True, names: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must hold at least two positive numbers, these are {list(sizes)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, this one is {activation!r}")
        self.names = [str(2 * number) for number in range(len(sizes) - 1)] if names is None else list(names)
        if len(set(self.names)) != len(sizes) - 1:
            raise ValueError(f"{len(sizes)} sizes need {len(sizes) - 1} different layer names, these are {self.names}")
        self.activation = activation
        for name, size_in, size_out in zip(self.names, sizes[:-1], sizes[1:], strict=True):
            _place(self, name, nn.Linear(size_in, size_out, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map float[b, sizes[0]] to float[b, sizes[-1]]."""
        for name in self.names[:-1]:
            x = ACTIVATIONS[self.activation](self.get_submodule(name)(x))
        out: Tensor = self.get_submodule(self.names[-1])(x)
        return out


def _place(root: nn.Module, path: str, layer: nn.Module) -> None:
    """Put `layer` at a dotted path below `root`, making the containers on the way."""
    *containers, leaf = path.split(".")
    for name in containers:
        if name not in dict(root.named_children()):
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(leaf, layer)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"mlp": MLP}
