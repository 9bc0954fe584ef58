"""A model on disk, the only form in which one is kept: weights, description and index in a folder.

    model.safetensors     every tensor once, with the description in its header
    architecture.json     the description, for reading without torch
    index.safetensors     the neuron index, absent for a model that can only be inspected
    definitions/SHA.py    the operators' files that define custom architectures: a record, never run from here

Importing this module is cheap: torch comes in when a model does.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from surgery.errors import ModelError, ModelFileError
from surgery.sandbox import described, reading

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.network.description import Description
    from surgery.network.model import Architecture, Model

WEIGHTS = "model.safetensors"
DESCRIPTION = "architecture.json"
INDEX = "index.safetensors"
DEFINITIONS = "definitions"
_FIX = "Restore it from a backup."


def save(model: Model, folder: Path) -> str:
    """Write `model` into `folder` (made if absent) and return its digest.

    Raises:
        ModelError: the modules are not those that the architecture constructs.
        OSError: the disk is full or not writable.
    """
    from surgery.network.architectures import skeleton
    from surgery.network.description import HEADER, describe, tensors_of
    from surgery.network.index_file import write_index
    from surgery.network.packed import stored

    fresh = skeleton(model.architecture)
    text = describe(model, fresh).model_dump_json(indent=1)
    own = tensors_of(model.module, fresh)
    tensors = {name: tensor.contiguous() for name, tensor in stored(own, model.held, model.precision).items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(tensors, folder / WEIGHTS, {HEADER: text})
    write_definitions(model.architecture, folder)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    if model.index is not None:
        write_index(model.index, folder / INDEX)
    return digest(folder)


def load(folder: Path) -> Model:
    """Read a model back: equal tensors bit for bit, the same index, in eval mode on the CPU.

    Raises:
        ModelFileError: a file is missing or damaged.
        ModelError: its architecture is not known here.
    """
    from safetensors.torch import load_file

    from surgery.network.architectures import filled
    from surgery.network.index_file import read_index
    from surgery.network.model import Model
    from surgery.network.packed import packings
    from surgery.network.restore import unpacked, widened

    description = _description(folder)
    require_definitions(description.architecture, folder)
    with restoring(f"The model in {folder}"):
        tensors = load_file(folder / WEIGHTS)
        own = widened(unpacked(tensors), description.precision)
        module = filled(description.architecture, own, description.attributes, description.tied)
        index = read_index(folder / INDEX) if (folder / INDEX).exists() else None
    return Model(
        module=module,
        architecture=description.architecture,
        input=description.input,
        task=description.task,
        classes=description.classes,
        index=index,
        support=description.support,
        origins=description.origins,
        held=packings(tensors),
        precision=description.precision,
        output=description.output,
    )


def write_definitions(architecture: Architecture, folder: Path) -> None:
    """Keep the operators' files that define an architecture beside the model."""
    from surgery.network.architectures import content_of, sources

    for source in sources(architecture):
        (folder / DEFINITIONS).mkdir(exist_ok=True)
        (folder / DEFINITIONS / f"{source}.py").write_bytes(content_of(source))


def require_definitions(architecture: Architecture, folder: Path) -> None:
    """Refuse an architecture whose code was never registered on this machine; the copy beside it is not run.

    Raises:
        ModelError: it says where the copy can be read, and how to register it.
    """
    from surgery.network import operator_files
    from surgery.network.architectures import content_of, sources

    for source in sources(architecture):
        try:
            content_of(source)
        except ModelError:
            copy = folder / DEFINITIONS / f"{source}.py"
            raise operator_files.unregistered(architecture.name, source, copy if copy.is_file() else None) from None


@contextmanager
def restoring(what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a stored file is read into one error; what: it, for the message.

    Raises:
        ModelFileError: the file is missing or damaged. SurgeryError: as it was raised.
    """
    try:
        with reading(what, ModelFileError, _FIX):
            yield
    except OSError as error:
        raise ModelFileError(f"{what} cannot be read: {described(error)}.", _FIX) from error


def digest(folder: Path) -> str:
    """ "sha256:…" of the bytes of the weights and the description.

    Raises:
        ModelFileError: one of the two is missing.
    """
    total = hashlib.sha256()
    for name in (WEIGHTS, DESCRIPTION):
        try:
            with (folder / name).open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelFileError(f"{folder / name} cannot be read: {error}.", _FIX) from error
    return f"sha256:{total.hexdigest()}"


def inspect(folder: Path) -> dict[str, Any]:
    """The description as plain data: name, arguments, classes, input, parameters, bytes, layers, support.

    Raises:
        ModelFileError: it is missing or no JSON.
    """
    try:
        found: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{folder / DESCRIPTION} cannot be read: {error}.", _FIX) from error
    return found


def export(folder: Path, target: Path, kind: Literal["safetensors", "onnx"]) -> None:
    """Write the model in `folder` for use elsewhere.

    safetensors: `target` becomes a folder of weights, description, definition.py and a loader.py, which needs torch,
    safetensors and the library that defines the architecture. onnx: `target` becomes one file.

    Raises:
        ModelError: the kind is unknown, or the network cannot be written as ONNX.
    """
    from surgery.network import export as exporting

    if kind == "safetensors":
        exporting.to_folder(folder, target)
    elif kind == "onnx":
        exporting.to_onnx(load(folder), target)
    else:
        raise ModelError(f"There is no export {kind!r}.", "Use safetensors or onnx.")


def _description(folder: Path) -> Description:
    """The checked description of a stored model."""
    from surgery.network.description import checked

    try:
        return checked(inspect(folder))
    except ValueError as error:
        raise ModelFileError(f"{folder / DESCRIPTION} is not valid: {error}.", _FIX) from error


def write_tensors(tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    """Write a safetensors file, with a full disk reported as Python reports it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=header)
    except SafetensorError as error:
        if "os error 28" in str(error) or "No space left" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(path)) from error
        raise OSError(f"{path} cannot be written: {error}") from error
