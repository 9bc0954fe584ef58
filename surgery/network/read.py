"""A file somebody brought -> tensors, without ever running anything from it.

What it is, is told by its content. safetensors are read directly, once their header is in order. Files of torch.save
are pickles: a child process with limits on memory, time and file size reads them with `weights_only=True` and writes
safetensors, which is what comes back. Everything that would have to run code is refused, with the lines that convert it
on the user's side. Whatever a reader raises becomes a `ModelFileError` that names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from surgery import sandbox, temporary
from surgery.errors import ModelFileError
from surgery.network import foreign, read_child
from surgery.network.description import HEADER
from surgery.network.header import metadata_of


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    notes: what was left out or changed, one sentence each.
    description: the text of architecture.json, if the file was saved by this product.
    file: where it lies; a message shows its last name.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    description: str | None = None
    file: Path = Path("the file")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in `path` by name; see `read`."""
    return read(path).tensors


def read(path: Path) -> Weights:
    """Read a .safetensors, .pt or .pth file of weights, whatever its name ends with.

    Raises:
        ModelFileError: it is missing, empty, truncated, something else, would have to run code to be opened,
            exceeds the limits, or holds values that are not finite.
    """
    kind = sniff(path)
    with sandbox.reading(path.name, ModelFileError):
        weights = _read_safetensors(path) if kind == "safetensors" else _read_in_child(path)
        if not weights.tensors:
            raise ModelFileError(f"{path.name} holds no tensors.", foreign.KINDS["empty"].fix(path.name))
        _check_finite(path, weights.tensors)
    return weights


def sniff(path: Path) -> str:
    """ "safetensors" or "torch", by content.

    Raises:
        ModelFileError: it is neither; the message says what it is.
    """
    if path.is_dir():
        advice = foreign.of_folder(path)
        raise ModelFileError(f"{path} is {advice.what}.", advice.fix(path.name))
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except (OSError, ValueError) as error:  # a path can hold a null character
        reason = getattr(error, "strerror", None) or sandbox.described(error)
        raise ModelFileError(f"{path} cannot be read: {reason}.", "Check the path.") from error
    if not head:
        raise ModelFileError(f"{path.name} is empty (0 bytes).", "Upload it again.")
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header < 100_000_000:  # asked first: the length can begin with any other mark
        if 8 + header > size:
            raise ModelFileError(f"{path.name} is truncated: its header alone is longer.", "Upload it again.")
        return "safetensors"
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        return "torch"
    raise _foreign(path, foreign.kind_of(path, head))


def _read_safetensors(path: Path) -> Weights:
    """Read safetensors; the tensors stay mapped to the file."""
    description = metadata_of(path, path.name).get(HEADER)
    return Weights(load_file(path), description=description, file=path)


def _read_in_child(path: Path) -> Weights:
    """Let the child convert `path`, and read what it wrote."""
    with temporary.folder("read") as folder:
        target = folder / "converted.safetensors"
        answer = sandbox.call(
            "surgery.network.read_child:answer",
            {"source": str(path.resolve()), "target": str(target)},
            limits_for(path.stat().st_size),
            name=path.name,
            error=ModelFileError,
            imports=("torch", "safetensors.torch"),
            readable=(path,),
            writable=(folder,),
        )
        if "error" in answer:
            raise _refusal(path, answer)
        metadata_of(target, path.name)
        tensors = load_file(target)  # mapped: stays readable when the folder is gone
    ordered = {name: tensors[name] for name in answer["names"]}
    ignored = answer["ignored"]
    note = f"Ignored {len(ignored)} entries that are not weights: {', '.join(ignored[:8])}."
    return Weights(ordered, notes=(note,) if ignored else (), file=path)


def limits_for(size: int) -> sandbox.Limits:
    """What reading a file of `size` bytes in a child may take."""
    written = read_child.EXPANSION * size + read_child.SLACK
    return sandbox.Limits(60 + size // 20_000_000, (read_child.EXPANSION + 2) * size + read_child.SLACK, written)


def _refusal(path: Path, answer: Mapping[str, Any]) -> ModelFileError:
    """The message for each answer of the child."""
    name, code, detail = path.name, answer["error"], answer["detail"]
    if code in foreign.KINDS:
        return _foreign(path, code)
    if code == "objects":
        return _of_objects(path, answer)
    what = {
        "archive": f"{name} is a zip archive of something else ({detail}).",
        "damaged": f"{name} is truncated or damaged: {detail}.",
        "content": f"{name} holds no state_dict, but {detail}.",
        "tensor": f"{name} holds {detail!r}, which is sparse or quantized; weights must be dense.",
        "expands": f"{name} describes far more than it holds ({detail}).",
        "name": f"{name} holds a tensor of the name {detail}, which is empty, too long or not printable.",
    }[code]
    words = {
        "damaged": "Upload it again.",
        "archive": "Unpack it, and import the file of weights inside.",
        "tensor": "Save the weights from before they were quantized, or call .to_dense() on sparse ones.",
        "name": "Rename the tensor and save the file again.",
    }
    return ModelFileError(what, words.get(code) or foreign.KINDS["empty"].fix(name))


def _of_objects(path: Path, answer: Mapping[str, Any]) -> ModelFileError:
    """The message for a pickle that holds more than weights."""
    kind = foreign.of_pickle(answer["classes"])
    if kind:
        return _foreign(path, "saved_arrays" if kind == "arrays" and answer["by_torch"] else kind)
    about = {name: answer[name] for name in ("classes", "key", "module", "by_torch")}
    return ModelFileError(
        f"{path.name} is not plain weights: it stores Python objects ({answer['detail']}), which can run code when "
        "opened.",
        foreign.of_objects(**about).fix(path.name),
    )


def _foreign(path: Path, kind: str) -> ModelFileError:
    """The message for a file of a kind that is not read here."""
    advice = foreign.KINDS[kind]
    return ModelFileError(f"{path.name} is {advice.what}.", advice.fix(path.name))


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse weights with NaN or infinity."""
    bad = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and (count := tensor.numel() - int(torch.isfinite(tensor.float()).sum())):
            bad[name] = count
    if not bad:
        return
    named = ", ".join(f"{name!r} ({count} of {tensors[name].numel()})" for name, count in list(bad.items())[:5])
    masks = all(_is_mask(name, tensors[name]) for name in bad)
    raise ModelFileError(
        f"{path.name} holds values that are not finite in {len(bad)} tensors: {named}.",
        "This is a mask or another constant, not a weight: leave it out of the file (register_buffer with "
        "persistent=False, or compute it in forward), and save again."
        if masks
        else "If the training diverged, import an earlier checkpoint; a constant that is no weight is left out of the "
        "file (register_buffer with persistent=False).",
    )


def _is_mask(name: str, tensor: Tensor) -> bool:
    """Whether it is one finite value at most beside infinities of one sign, as masks of attention are."""
    if name.rpartition(".")[2] in ("weight", "bias"):
        return False
    values = tensor.float().unique()
    infinite = values[~torch.isfinite(values)]
    return len(infinite) == 1 and not bool(infinite.isnan()) and len(values) <= 2
