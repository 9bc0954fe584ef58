"""A file somebody brought -> tensors, without ever running anything from it.

What it is, is told by its content. safetensors are read directly, once their header is in order. Files of torch.save
are pickles: a child process with limits on memory, time and file size reads them with `weights_only=True` and writes
safetensors, which is what comes back. Everything that would have to run code is refused, with the lines that convert it
on the user's side. Whatever a reader raises becomes a `ModelFileError` that names the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from surgery import sandbox, temporary
from surgery.errors import ModelFileError
from surgery.network import read_child
from surgery.network.description import HEADER
from surgery.network.header import metadata_of

# What a file begins with when it is something else: (bytes, offset, what it is).
_STRANGERS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 (Keras) file"),
    (b"GGUF", 0, "a GGUF file"),
    (b"\x93NUMPY", 0, "a NumPy array"),
    (b"\x89PNG", 0, "a PNG picture"),
    (b"\xff\xd8\xff", 0, "a JPEG picture"),
    (b"%PDF", 0, "a PDF"),
    (b"\x1f\x8b", 0, "a gzip archive"),
    (b"7z\xbc\xaf", 0, "a 7z archive"),
    (b"ustar", 257, "a tar archive"),
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the file itself (run `git lfs pull`)"),
    (b"<", 0, "a web page or XML"),
)
_SAVE = """\
from safetensors.torch import save_file
save_file({name: value.contiguous().clone() for name, value in weights.items()}, "model.safetensors")"""
_CONVERT_ON_YOUR_SIDE = "Convert it where you trust the file, then bring model.safetensors:\n\n"
_CONVERTERS = {
    "objects": 'import torch\nmodel = torch.load("FILE", weights_only=False)  # runs code from the file\n'
    f"weights = model.state_dict()\n{_SAVE}",
    "torchscript": f'import torch\nweights = torch.jit.load("FILE", map_location="cpu").state_dict()\n{_SAVE}',
    "exported": f'import torch\nweights = torch.export.load("FILE").state_dict  # may run code\n{_SAVE}',
    "onnx": 'import onnx, torch\nfrom onnx.numpy_helper import to_array\ngraph = onnx.load("FILE").graph\n'
    f"weights = {{t.name: torch.tensor(to_array(t)) for t in graph.initializer}}\n{_SAVE}",
    "plain": f"import torch\nweights = model.state_dict()\n{_SAVE}",
}


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
            raise ModelFileError(f"{path.name} holds no tensors.", _converter("plain", path))
        _check_finite(path, weights.tensors)
    return weights


def sniff(path: Path) -> str:
    """ "safetensors" or "torch", by content.

    Raises:
        ModelFileError: it is neither; the message says what it is.
    """
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
    if _is_onnx(head, path):
        raise ModelFileError(f"{path.name} is an ONNX model, not weights.", _converter("onnx", path))
    for mark, offset, name in _STRANGERS:
        if head[offset : offset + len(mark)] == mark:
            raise ModelFileError(f"{path.name} is {name}.", _converter("plain", path))
    raise ModelFileError(f"{path.name} is neither safetensors nor a file of torch.save.", _converter("plain", path))


def _is_onnx(head: bytes, path: Path) -> bool:
    """ONNX has no mark: field 1 (a small version number), then a text field."""
    return path.suffix == ".onnx" or (head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x3a"))


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
            raise _refusal(path, answer["error"], answer["detail"])
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


def _refusal(path: Path, code: str, detail: str) -> ModelFileError:
    """The message for each answer of the child."""
    name = path.name
    what = {
        "objects": f"{name} is not plain weights: it stores Python objects ({detail}), which can run code when opened.",
        "torchscript": f"{name} is a TorchScript program, not weights.",
        "exported": f"{name} is a torch.export program (.pt2), which can run code when opened.",
        "archive": f"{name} is a zip archive of something else ({detail}).",
        "damaged": f"{name} is truncated or damaged: {detail}.",
        "content": f"{name} holds no state_dict, but {detail}.",
        "tensor": f"{name} holds {detail!r}, which is sparse or quantized; weights must be dense.",
        "expands": f"{name} describes far more than it holds ({detail}).",
        "name": f"{name} holds a tensor of the name {detail}, which is empty, too long or not printable.",
    }[code]
    if code == "damaged":
        return ModelFileError(what, "Upload it again.")
    return ModelFileError(what, _converter(code, path))


def _converter(code: str, path: Path) -> str:
    """The advice with the lines that convert such a file on the user's side."""
    lines = _CONVERTERS.get(code, _CONVERTERS["plain"]).replace("FILE", path.name.replace('"', ""))
    return _CONVERT_ON_YOUR_SIDE + lines


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse weights with NaN or infinity."""
    bad = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and (count := tensor.numel() - int(torch.isfinite(tensor.float()).sum())):
            bad[name] = count
    if bad:
        named = ", ".join(f"{name!r} ({count} of {tensors[name].numel()})" for name, count in list(bad.items())[:5])
        raise ModelFileError(
            f"{path.name} holds values that are not finite in {len(bad)} tensors: {named}.",
            "The training diverged; bring an earlier checkpoint.",
        )
