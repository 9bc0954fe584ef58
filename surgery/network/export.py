"""Models for use elsewhere: a folder that loads without this product, and ONNX."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import ModelError
from surgery.network import architectures, restore, store
from surgery.network.model import Model
from surgery.network.outputs import named


def to_folder(folder: Path, target: Path) -> None:
    """Copy a stored model beside the two files that rebuild it: `loader.py`, and the very file that defines it.

    The files that define the members of a composed network come with it. A custom definition is copied as one file;
    modules that it imports from its own folder are not.
    """
    description = store.inspect(folder)
    definition = architectures.definition(description["name"], description.get("source", ""))
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / store.WEIGHTS, target / store.WEIGHTS)
    shutil.copyfile(Path(restore.__file__), target / "loader.py")
    (target / "definition.py").write_bytes(definition.content or definition.file.read_bytes())
    described = {**description, "definition": {"table": definition.table, "key": definition.key}}
    described["arguments"] = _with_files(description["arguments"], target)
    (target / store.DESCRIPTION).write_text(json.dumps(described, indent=1), encoding="utf-8")


def _with_files(arguments: Any, target: Path) -> Any:
    """The arguments of a constructor, in which every member network names the file, copied here, that defines it."""
    if isinstance(arguments, list):
        return [_with_files(one, target) for one in arguments]
    if not isinstance(arguments, dict):
        return arguments
    found = {key: _with_files(value, target) for key, value in arguments.items()}
    if {"name", "arguments"} <= found.keys():
        source = found.get("source", "")
        definition = architectures.definition(found["name"], source)
        family = found["name"].rpartition("/")[0] or "mlp"
        file = f"definition_{family}{'_' if source else ''}{source[:16]}.py"
        (target / file).write_bytes(definition.content or definition.file.read_bytes())
        found |= {"file": file, "table": definition.table, "key": definition.key}
    return found


def to_onnx(model: Model, target: Path) -> None:
    """Write one self-contained file: "input" float[batch, *shape], normalised -> "logits" float[batch, classes];
    of a text int64[batch, context] -> what its module gives, as a rule float[batch, context, alphabet]. Further outputs
    of the network follow under their paths.

    Its metadata holds classes, mean, std and the origins of the weights as JSON.

    Raises:
        ModelError: the exporter is not installed, or cannot write this network.
    """
    try:
        proto = _exported(model).model_proto
        _forget_sources(proto)
        facts = {"classes": model.classes, "mean": model.input.mean, "std": model.input.std}
        for key, value in {**facts, "origins": [asdict(origin) for origin in model.origins]}.items():
            proto.metadata_props.add(key=key, value=json.dumps(value))
        content = proto.SerializeToString()
    except ImportError as error:
        raise ModelError(
            f"ONNX export needs {error.name}.", 'Install it: pip install "model-surgery[onnx]".'
        ) from error
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ModelError(f"This network cannot be written as ONNX: {reason}", "Export safetensors instead.") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _exported(model: Model) -> Any:
    """Torch's ONNX program of the model, for any batch size."""
    example = model.input.example(2)
    with torch.no_grad():
        others = [path for path in named(model.module(example)) if path != model.output]
    several = model.output and others
    program = torch.onnx.export(
        _PredictionFirst(model.module, model.output, others).eval() if several else model.module,
        (example,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["input"],
        output_names=["logits", *(others if several else ())],
        verbose=False,
    )
    if program is None:
        raise ValueError("the exporter returned nothing")
    return program


class _PredictionFirst(nn.Module):
    """A network that returns its prediction, then its other outputs."""

    def __init__(self, network: nn.Module, prediction: str, others: Sequence[str]) -> None:
        super().__init__()
        self.network, self.prediction, self.others = network, prediction, others

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """All outputs, in that order."""
        found = named(self.network(x))
        return (found[self.prediction], *(found[path] for path in self.others))


def _forget_sources(proto: Any) -> None:
    """Take out what the exporter notes about where the code stood: paths of this machine."""
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del part.metadata_props[:]
    del proto.graph.metadata_props[:]
    for function in proto.functions:
        for node in function.node:
            del node.metadata_props[:]
