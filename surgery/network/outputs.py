"""What a network returns: one tensor, or several in tuples, dicts and named tuples; and which one is the prediction.

A path names one of them: "" is a bare tensor, "1" the second of a tuple, "logits" an entry of a dict, "heads.0" the
first of what stands under "heads".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from surgery.errors import ModelError
from surgery.network.facts import listed

LOGITS = "logits"  # what every library of classifiers calls its prediction
MOST = 64  # outputs that are listed


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a nested result, in order."""
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in values for tensor in tensors(item)]


def named(out: Any, path: str = "") -> dict[str, Tensor]:
    """Every tensor that a network returned, by its path, in order."""
    if isinstance(out, Tensor):
        return {path: out}
    return {name: tensor for key, value in _entries(out) for name, tensor in named(value, _below(path, key)).items()}


def _entries(out: Any) -> Iterator[tuple[str, Any]]:
    """The entries of a container by their keys; those whose key cannot stand in a path are left out."""
    if isinstance(out, Mapping):
        yield from ((key, value) for key, value in out.items() if isinstance(key, str) and key and "." not in key)
    elif hasattr(out, "_fields"):
        yield from zip(out._fields, out, strict=True)
    elif isinstance(out, (tuple, list)):
        yield from ((str(place), value) for place, value in enumerate(out))


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def pick(out: Any, path: str) -> Tensor:
    """The output at `path`; where no path was recorded, the first.

    Raises:
        ModelError: there is none.
    """
    if isinstance(out, Tensor):
        return out
    found = named(out)
    if path in found:
        return found[path]
    if path or not found:
        raise ModelError(
            f"The network returns no output {path!r}; it returns {listed(shapes(found))}.",
            "Import the model again and choose its prediction.",
        )
    return next(iter(found.values()))


def shapes(found: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """The shape of each output for one sample, by path."""
    return {path: list(tensor.shape[1:]) for path, tensor in list(found.items())[:MOST]}


def plausible(found: Mapping[str, Tensor], example: Tensor, characters: int = 0) -> list[str]:
    """The paths of what can be a prediction for `example: [batch, …]`: one row of numbers per sample.

    characters: of a text model, whose prediction has as many columns, after the last or after each character.
    """
    text = not example.is_floating_point()
    return [
        path
        for path, tensor in found.items()
        if tensor.is_floating_point() and len(tensor.shape) > 1 and len(tensor) == len(example)
        if tensor.dim() == 2 or (text and tensor.dim() == 3 and tensor.shape[:2] == example.shape)
        if not characters or tensor.shape[-1] == characters
    ]


def candidates(found: Mapping[str, Tensor], example: Tensor, characters: int = 0) -> list[str]:
    """The paths of the outputs that can be the prediction: the one that is called "logits", or all `plausible` ones."""
    known = [path for path in found if path.rpartition(".")[2] == LOGITS]
    return known if len(known) == 1 else plausible(found, example, characters)


def prediction(out: Any, example: Tensor, wanted: str = "", characters: int = 0) -> str:
    """The path of the prediction in what a network returned for `example`: `wanted`, or the only one that can be.

    An output that is called "logits" is taken before all others.

    Raises:
        ModelError: there is no output `wanted`; or several could be the prediction.
    """
    found = named(out)
    if wanted and wanted not in found:
        raise ModelError(
            f"The network returns no output {wanted!r}; it returns {listed(shapes(found))}.",
            f"Choose one of {', '.join(map(repr, found))}." if len(found) > 1 else "Leave the output out.",
        )
    if wanted or "" in found:
        return wanted
    possible = candidates(found, example, characters)
    if len(possible) > 1:
        raise ModelError(
            f"The network returns several outputs that can be its prediction: {listed(shapes(found))}.",
            f"Say which one it is: --output {possible[0]} on the command line, or choose it on the page.",
        )
    return possible[0] if possible else next(iter(found), "")


def alike(left: Any, right: Any) -> float:
    """How far two results of a network are apart: the largest max|a − b| ÷ max|b| over all outputs.

    Infinite where the two differ in their number of outputs, in a shape or in where they are not finite.
    """
    a, b = tensors(left), tensors(right)
    if [one.shape for one in a] != [one.shape for one in b]:
        return float("inf")
    return max((_apart(x.detach(), y.detach()) for x, y in zip(a, b, strict=True)), default=0.0)


def _apart(a: Tensor, b: Tensor) -> float:
    if torch.equal(a, b):
        return 0.0
    if a.is_floating_point() and b.is_floating_point():
        finite = a.isfinite()
        if not torch.equal(finite, b.isfinite()) or not torch.equal(*(x[~finite].nan_to_num() for x in (a, b))):
            return float("inf")
        a, b = a[finite].double(), b[finite].double()
        return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) if a.numel() else 0.0
    return float("inf")
