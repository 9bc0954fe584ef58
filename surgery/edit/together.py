"""Modules put together to one network again: each answers for its class, the surest wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from surgery.edit.heads import restored
from surgery.edit.shrink import shrink
from surgery.network.model import Model, Support
from surgery.network.part import Part


class Together(nn.Module):
    """x -> float[b, K]: for each member the score that its head makes of its outputs."""

    def __init__(self, members: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members, self.heads = nn.ModuleList(members), nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor:
        """Ask each member."""
        answers = [member(x) for member in self.members]
        answers = [out if isinstance(out, Tensor) else out[0] for out in answers]
        return torch.cat([head(out) for head, out in zip(self.heads, answers, strict=True)], dim=1)


def together(model: Model, parts: Sequence[Part]) -> Model:
    """The parts of one network as a classifier of their classes, each cut down to its own neurons.

    Tensors that several parts have whole are stored once. It can be run and measured; it has no numbering.

    Raises:
        TraceError: the network cannot be shrunk. SelectionError: a part belongs to another network.
    """
    members = [cut_out(model, part).module for part in parts]
    _share(model.module, members)
    module = Together(members, [restored(part.head) for part in parts]).eval()
    return replace(
        model,
        module=module,
        classes=tuple(name for part in parts for name in part.classes),
        index=None,
        support=Support("inspect", "its modules are networks of their own"),
        parts=(),
    )


def cut_out(model: Model, part: Part) -> Model:
    """The network with the neurons of a part alone and all its outputs, what its head reads."""
    assert model.index is not None
    return shrink(model, part.keep | model.index.fixed, part.means)[0]


def _share(source: nn.Module, members: Sequence[nn.Module]) -> None:
    """Replace what a member has as the source has it by one and the same tensor."""
    whole = dict(source.named_parameters())
    for member in members:
        for name, parameter in list(member.named_parameters()):
            if name in whole and parameter.shape == whole[name].shape and torch.equal(parameter, whole[name]):
                path, _, leaf = name.rpartition(".")
                setattr(member.get_submodule(path), leaf, whole[name])
