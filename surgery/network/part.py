"""A part of a network that answers for some of its classes on its own: which neurons, which classes, what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from surgery.network.store import restoring

MEANS, HEAD, PROOF = "means", "head", "proof"
LIST, TENSORS = "parts.json", "parts.safetensors"


@dataclass(frozen=True)
class Part:
    """keep: bool[N] of the network that it lies in; its outputs are those of `classes`, in the network's order.

    means: layer -> float[in], what neurons outside `keep` leave behind; empty = nothing. head: the tensors of a
    `surgery.edit.heads.Head` that turns the network's outputs into one score for the only class; empty = the outputs
    themselves. source: digest of the weights that it was cut for, "" = those it is stored with. figures: what was
    measured of it on validation samples. proof: a few samples as the network takes them, x: float[n, *input], and what
    it said of them, score: float[n]; it must say so whenever it is used.
    """

    name: str
    keep: Tensor
    classes: tuple[str, ...]
    means: Mapping[str, Tensor] = field(default_factory=dict)
    head: Mapping[str, Tensor] = field(default_factory=dict)
    source: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    proof: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Names what it says: of its neurons, means, head and source; not of its name, figures and proof."""
        whole = hashlib.sha256(f"{self.source}|{'|'.join(self.classes)}".encode())
        whole.update(self.keep.numpy().tobytes())
        for name, tensor in _named(means=self.means, head=self.head).items():
            whole.update(name.encode())
            whole.update(tensor.contiguous().numpy().tobytes())
        return "sha256:" + whole.hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """Means, head and proof by name, for a file of tensors."""
        return _named(means=self.means, head=self.head, proof=self.proof)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict of all but `tensors`."""
        return {
            "name": self.name,
            "of": len(self.keep),
            "neurons": self.keep.nonzero()[:, 0].tolist(),
            "classes": list(self.classes),
            "source": self.source,
            "figures": dict(self.figures),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> Part:
        """The part that `to_json` and `tensors` wrote."""
        keep = torch.zeros(int(value["of"]), dtype=torch.bool)
        keep[value["neurons"]] = True
        own: dict[str, dict[str, Tensor]] = {MEANS: {}, HEAD: {}, PROOF: {}}
        for name, tensor in (tensors or {}).items():
            kind, _, rest = name.partition("/")
            own[kind][rest] = tensor
        return cls(
            value["name"],
            keep,
            tuple(value["classes"]),
            own[MEANS],
            own[HEAD],
            value.get("source", ""),
            value.get("figures", {}),
            own[PROOF],
        )


def _named(**kinds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ "means/conv1" -> its tensor, and so on."""
    return {f"{kind}/{name}": tensor for kind, own in kinds.items() for name, tensor in sorted(own.items())}


def save(parts: Sequence[Part], folder: Path) -> None:
    """Write the parts of a model beside it: their descriptions, and their tensors, one that several share once."""
    held: dict[int, tuple[str, Tensor]] = {}
    rows = []
    for place, part in enumerate(parts):
        own = part.tensors()
        names = {name: held.setdefault(id(tensor), (f"{place}/{name}", tensor))[0] for name, tensor in own.items()}
        rows.append({**part.to_json(), "digest": part.digest, "tensors": names})
    (folder / LIST).write_text(json.dumps(rows), encoding="utf-8")
    if held:
        save_file({name: tensor.contiguous() for name, tensor in held.values()}, folder / TENSORS)


def load(folder: Path) -> tuple[Part, ...]:
    """The parts that lie in a folder; none when nothing was saved.

    Raises:
        ModelFileError: a file is damaged.
    """
    if not (folder / LIST).exists():
        return ()
    with restoring(f"The parts in {folder}"):
        held = load_file(folder / TENSORS) if (folder / TENSORS).exists() else {}
        rows = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return tuple(Part.from_json(row, {own: held[n] for own, n in row.get("tensors", {}).items()}) for row in rows)
