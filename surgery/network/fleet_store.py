"""A fleet on disk: every tensor once, in the form of a stored model, so that the same loader rebuilds it anywhere.

    model.safetensors     the tensors of all members, a shared beginning once
    architecture.json     members, shares, input, bytes

A guest's own beginning is not in it: it stays in the version that the guest was made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file

from surgery.errors import ModelFileError
from surgery.network import store
from surgery.network.architectures import filled, skeleton
from surgery.network.description import changed_attributes, tensors_of, tied_names
from surgery.network.fleet import Fleet
from surgery.network.model import Architecture, Model
from surgery.network.packed import stored
from surgery.network.precision import formats_of
from surgery.network.restore import unpacked, widened

NAME = "fleet/members"


def save(fleet: Fleet, members: Mapping[str, Model], folder: Path) -> str:
    """Write a fleet of `members` (as they were before they shared) into a folder, and return its digest.

    Raises:
        OSError: the disk is full or not writable.
    """
    fresh = skeleton(Architecture(NAME, fleet.arguments))
    own = tensors_of(fleet, fresh)
    precision = _inside(fleet, members, "precision")
    written = stored(own, _inside(fleet, members, "held"), precision)
    tensors = {name: tensor.contiguous() for name, tensor in written.items()}
    input = next(iter(members.values())).input
    origins = dict.fromkeys(origin for model in members.values() for origin in model.origins)
    description = {
        "format": 1,
        "name": NAME,
        "arguments": fleet.arguments,
        "input": {"kind": input.kind, "shape": list(input.shape)},
        "attributes": changed_attributes(fleet, fresh),
        "tied": tied_names(fleet),
        "parameters": sum(parameter.numel() for parameter in fleet.parameters()),
        "bytes": sum(tensor.nbytes for tensor in tensors.values()),
        "origins": [asdict(origin) for origin in origins],
        "precision": {name: kind for name, kind in formats_of(tensors).items() if name in precision},
    }
    text = json.dumps(description, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    store.write_tensors(tensors, folder / store.WEIGHTS, {})
    store.write_definitions(Architecture(NAME, fleet.arguments), folder)
    (folder / store.DESCRIPTION).write_text(text, encoding="utf-8")
    return store.digest(folder)


def load(folder: Path) -> Fleet:
    """Rebuild a fleet, in eval mode; what its guests have given up is never in memory.

    Raises:
        ModelFileError: a file is missing or damaged. ModelError: an architecture is not known here.
    """
    found = store.inspect(folder)
    architecture = Architecture(found["name"], found["arguments"])
    store.require_definitions(architecture, folder)
    with store.restoring(f"The fleet in {folder}"):
        tensors = widened(unpacked(load_file(folder / store.WEIGHTS)), found.get("precision", ()))
        fleet = filled(architecture, tensors, found["attributes"], found["tied"])
    if not isinstance(fleet, Fleet):
        raise ModelFileError(f"{folder} holds no fleet but {found['name']}.", "Open it as a model.")
    return fleet


def _inside(fleet: Fleet, members: Mapping[str, Model], what: Literal["held", "precision"]) -> dict[str, Any]:
    """How the members' tensors are stored (`Model.held` or `Model.precision`), those that are still there."""
    names = fleet.state_dict().keys()
    found: dict[str, Any] = {}
    for place, (member, model) in enumerate(members.items()):
        within = "network." if member in fleet.shares else ""
        found |= {f"members.{place}.{within}{name}": value for name, value in getattr(model, what).items()}
    return {name: value for name, value in found.items() if name in names}
