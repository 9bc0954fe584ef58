"""A part of a network that answers for some of its classes on its own: which neurons, which classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """keep: bool[N] of the network that it lies in; its outputs are those of `classes`, in the network's order."""

    name: str
    keep: Tensor
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return {
            "name": self.name,
            "of": len(self.keep),
            "neurons": self.keep.nonzero()[:, 0].tolist(),
            "classes": list(self.classes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Part:
        """The part that `to_json` wrote."""
        keep = torch.zeros(int(value["of"]), dtype=torch.bool)
        keep[value["neurons"]] = True
        return cls(value["name"], keep, tuple(value["classes"]))
