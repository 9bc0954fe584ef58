"""A trial of what an upload describes, in the limited child, before this process builds the same.

Sizes come from whoever made the file: a billion units, a million layers, a picture of a terabyte. The child has limits
on memory and time, opens no file but the installed libraries and the upload, and stops as soon as the network declares
far more weights than the file holds. What passes there is small enough to be built here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from surgery import sandbox
from surgery.errors import ModelFileError
from surgery.network import architectures, load, operator_files
from surgery.network.description import parsed
from surgery.network.model import Architecture
from surgery.network.read import Weights, read

EXPANSION = 10  # how many times more values a network may declare than the file holds …
VALUES = 200_000_000  # … and so many more: a file is compared with networks that it does not belong to
TENSORS = 10_000
_MEMORY = 2 << 30  # bytes, beyond a multiple of the file
_PATIENCE = 6  # the child imports large libraries, perhaps on a busy machine
_LIBRARIES = {
    "torchvision": ("surgery.network.zoo",),
    "timm": ("surgery.network.timm_zoo",),
    "hf": ("surgery.network.hf", "transformers.modeling_utils"),
}
WIDEST, DEEPEST = 1 << 17, 1000
SMALL = 1 << 18  # values of one sample: a picture of 295 × 295
_SIZES = {"in_features", "out_features", "in_channels", "out_channels", "num_features", "normalized_shape"}
_COUNTS = {"num_classes", "in_channels", "in_chans", "classes"}  # arguments that make no network large


def attempt(weights: Weights, architecture: Architecture | None = None) -> None:
    """Let a child build `architecture`, or the model that the file describes, and run that once.

    Our own small networks, and networks at their library's own sizes, are not tried: they are bounded.

    Raises:
        ModelError: it cannot be built, declares far more than the file holds, or exceeds the limits.
    """
    size = sum(tensor.nbytes for tensor in weights.tensors.values())
    held = {"tensors": len(weights.tensors), "values": sum(tensor.numel() for tensor in weights.tensors.values())}
    if architecture is None:
        _call(
            "reopened",
            {"path": str(weights.file.resolve()), **held},
            weights.file,
            size,
            libraries(weights.description),
        )
    elif architecture is not None and not _bounded(architecture):
        wanted = {"name": architecture.name, "arguments": dict(architectures.allowed(architecture).arguments)}
        _call("built", {**wanted, **held}, weights.file, size, libraries(architecture.name))


def _bounded(architecture: Architecture) -> bool:
    """Whether nothing that came with the upload decides about the size."""
    family = architecture.name.partition("/")[0]
    if family == "custom":
        return True  # the operator's own code, which may need more than a child is allowed
    arguments = architectures.allowed(architecture).arguments
    known = family in ("mlp", "text", "sample") or (family in ("torchvision", "timm") and arguments.keys() <= _COUNTS)
    depth = arguments.get("depth", 0)
    return known and _modest(arguments) and isinstance(depth, int) and depth <= DEEPEST


def _modest(value: Any) -> bool:
    """Whether no number among some arguments is beyond the widths and counts of usual networks."""
    if isinstance(value, (Mapping, list)):
        return all(map(_modest, value.values() if isinstance(value, Mapping) else value))
    return not isinstance(value, (int, float)) or value <= WIDEST


def _small(text: str) -> bool:
    """Whether a description can make nothing large: our own network, of ordinary input, in which only sizes differ.

    Its weights are then no larger than the file, and what it computes follows from them.
    """
    try:
        found = parsed(text)
    except ValueError:
        return True  # it is refused before anything is built
    differing = {name for values in found.attributes.values() for name in values}
    own = found.name == "mlp" or found.name.startswith("sample/")
    return own and _modest(found.arguments) and differing <= _SIZES and math.prod(found.input.shape) <= SMALL


def libraries(text: str | None) -> list[str]:
    """What a child imports before its limits: importing a library can start programs and write files."""
    return [module for family, modules in _LIBRARIES.items() if f"{family}/" in (text or "") for module in modules]


def _call(function: str, argument: Mapping[str, Any], file: Path, size: int, imports: Sequence[str]) -> None:
    operator = os.environ.get(operator_files.VARIABLE)
    sandbox.call(
        f"surgery.network.trial:{function}",
        argument,
        sandbox.Limits(30 + size // 20_000_000, _MEMORY + 8 * size, patience=_PATIENCE),
        name=file.name,
        error=ModelFileError,
        imports=imports,
        readable=(file, operator_files.folder(), *([Path(operator)] if operator else [])),
    )


# In the child


def built(argument: Mapping[str, Any]) -> None:
    """Build an architecture without weights."""
    with _limited(argument):
        architectures.skeleton(Architecture(argument["name"], argument["arguments"]))


def reopened(argument: Mapping[str, Any]) -> None:
    """Build what a file describes, with its weights, and run it once."""
    with _limited(argument):
        load.rebuilt(read(Path(argument["path"])))


@contextmanager
def _limited(argument: Mapping[str, Any]) -> Iterator[None]:
    """Stop construction as soon as it declares far more weights than the file holds."""
    held, tensors = argument["values"], argument["tensors"]
    declared = [0, 0]

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        declared[0] += 0 if parameter is None else parameter.numel()
        declared[1] += parameter is not None
        if declared[0] > EXPANSION * held + VALUES or declared[1] > EXPANSION * tensors + TENSORS:
            raise ModelFileError(
                f"The architecture declares {declared[0]:,} values in {declared[1]:,} tensors and more; "
                f"the file holds {held:,} in {tensors:,}.",
                "Correct the sizes, or choose another architecture.",
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
