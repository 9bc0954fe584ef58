"""The numbering of a network: ids 0 … N−1 for its neurons, who feeds whom, what goes together, what may not go.

Everything the product computes is a tensor with N rows beside this index. `axes` says, for every tensor of the
state_dict, which neuron each position of each axis belongs to; pruning any layer type is then one sentence:
keep a position where its neuron is kept.

Letters: N neurons, out / in = positions along axis 0 of a weight and along the channel axis of its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from surgery.errors import SelectionError
from surgery.network.readers import layer_name


@dataclass(frozen=True)
class Layer:
    """One weight that writes neurons and reads others.

    rows: int64[out], the neuron id of each output.
    cols: int64[in], the neuron id of each input position, −1 = model input or a constant.
    """

    name: str
    rows: Tensor
    cols: Tensor
    kind: str = "linear"  # "conv" or "linear"
    shiftable: bool = True  # False when it is a bare weight without a module that could hold a bias


@dataclass(frozen=True)
class NeuronIndex:
    """Who is who. `layers` is in order of execution, so ids rise along the network."""

    layers: Mapping[str, Layer]
    axes: Mapping[str, tuple[Tensor | None, ...]]  # state_dict name -> ids per axis (None: never sliced)
    group: Tensor  # [N], same number = removed together; the number is the smallest id of the group
    fixed: Tensor  # [N], outputs, and what is normalised across neurons
    why_fixed: Mapping[int, str]  # group number -> the step that fixed it
    unmeasured: Mapping[int, str] = field(default_factory=dict)  # fixed group -> the step where no gate can follow it

    @property
    def n(self) -> int:
        """N, the number of ids (logits included)."""
        return len(self.group)

    @cached_property
    def layer_of(self) -> Tensor:
        """int64[N]: position in `layers` of the layer that writes each neuron."""
        owner = torch.full((self.n,), -1, dtype=torch.long)
        for number, layer in enumerate(self.layers.values()):
            owner[layer.rows] = number
        return owner

    @cached_property
    def logits(self) -> Tensor:
        """bool[N]: the model's outputs, which are never scored, drawn or removed."""
        out = torch.zeros(self.n, dtype=torch.bool)
        for number, reason in self.why_fixed.items():
            if reason == "model output":
                out |= self.group == number
        return out

    @cached_property
    def point(self) -> Tensor:
        """bool[N]: one representative per group of hidden neurons: the points of the map, the unit of counting."""
        first = torch.zeros(self.n, dtype=torch.bool)
        first[self.group.unique()] = True
        return first & ~self.logits

    def stays(self, group: int) -> str:
        """Why a fixed group stays, and whether ablating it can be measured at all; "" for a group that may go."""
        if group in self.unmeasured:
            return f"not measurable: {self.unmeasured[group]}"
        return self.why_fixed.get(group, "")

    def writes(self, name: str) -> int | None:
        """The axis along which a weight of the state_dict writes its layer's neurons; None for other tensors."""
        layer, axes = self.layers.get(layer_name(name)), self.axes.get(name, ())
        if layer is None or len(axes) < 2:
            return None
        return next((a for a, ids in enumerate(axes) if ids is not None and torch.equal(ids, layer.rows)), None)

    def close(self, keep: Tensor) -> Tensor:
        """Make `keep: bool[N]` consistent: a group goes as soon as one of its members goes; fixed neurons stay."""
        gone = torch.zeros(self.n, dtype=torch.bool)
        gone[self.group[~keep]] = True
        return ~gone[self.group] | self.fixed

    def check(self, keep: Tensor) -> None:
        """Refuse a keep that is not `bool[N]`, splits a group, removes a fixed neuron or empties a layer.

        Raises:
            SelectionError: naming the layer.
        """
        if keep.dtype != torch.bool or keep.shape != (self.n,):
            raise SelectionError(
                f"A keep must be bool[{self.n}], this one is {keep.dtype}{list(keep.shape)}.",
                "Make the selection on this version, or map it through its old ids.",
            )
        if not torch.equal(self.close(keep), keep):
            raise SelectionError(
                "The selection removes part of a coupled group or a fixed neuron.", "Close it with NeuronIndex.close."
            )
        for layer in self.layers.values():
            if not keep[layer.rows].any():
                raise SelectionError(
                    f"The selection removes all {len(layer.rows)} neurons of layer {layer.name!r}; "
                    "at least one must stay.",
                    f"Leave a neuron of {layer.name!r} out of the selection.",
                )

    def restrict(self, keep: Tensor) -> NeuronIndex:
        """The index of the network cut down to `keep: bool[N]`: the kept neurons, numbered anew in the same order."""
        new = torch.cumsum(keep, 0) - 1

        def left(ids: Tensor) -> Tensor:
            kept = ids[(ids < 0) | keep[ids.clamp(min=0)]]
            return torch.where(kept >= 0, new[kept.clamp(min=0)], kept)

        layers = {
            name: Layer(name, left(layer.rows), left(layer.cols), layer.kind, layer.shiftable)
            for name, layer in self.layers.items()
        }
        axes = {name: tuple(None if a is None else left(a) for a in ids) for name, ids in self.axes.items()}
        first = torch.full((self.n,), self.n, dtype=torch.long)
        first.scatter_reduce_(0, self.group[keep], new[keep], "amin")  # old group number -> its smallest new id
        why, lost = (
            {int(first[number]): reason for number, reason in known.items() if first[number] < self.n}
            for known in (self.why_fixed, self.unmeasured)
        )
        group = first[self.group[keep]]
        why = single_groups(layers, group) | why
        return NeuronIndex(layers, axes, group, fixed_by(group, why), why, lost)


def single_groups(layers: Mapping[str, Layer], group: Tensor) -> dict[int, str]:
    """A layer whose rows all form one group cannot lose a part of it: group number -> the reason."""
    return {
        int(group[layer.rows[0]]): f"all neurons of {name} go together"
        for name, layer in layers.items()
        if bool((group[layer.rows] == group[layer.rows[0]]).all())
    }


def fixed_by(group: Tensor, why: Mapping[int, str]) -> Tensor:
    """bool[N]: the neurons whose group has a reason to stay."""
    return torch.isin(group, torch.tensor(sorted(why), dtype=torch.long))
