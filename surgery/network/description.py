"""What is written beside the weights (`architecture.json`), and how it is read off a model.

A model after surgery has other sizes than its constructor makes, so every plain attribute that differs from a freshly
constructed module is recorded. The same text travels in the header of `model.safetensors`, which makes that file
alone enough to open the model again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_serializer,
)
from torch import Tensor, nn
from torch.fx import GraphModule

from surgery.errors import ModelError
from surgery.network.architectures import skeleton
from surgery.network.index import NeuronIndex
from surgery.network.model import Architecture, InputSpec, Model, Origin, Support, Task
from surgery.network.packed import stored
from surgery.network.plain import label, parse, plain
from surgery.network.precision import Format, formats_of, said

LONGEST = 2_000  # characters of a class's name or of an origin
NAMED = 20  # modules without numbered neurons that are named
HEADER = "architecture"  # the one header entry: the order of several would differ from run to run


class LayerInfo(BaseModel):
    """One weight that writes neurons."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str  # "conv" or "linear"
    neurons: int


class Description(BaseModel):
    """Everything about a model but its tensors and its index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    arguments: dict[str, JsonValue]
    input: InputSpec
    task: Task
    classes: tuple[str, ...]
    support: Support
    attributes: dict[str, dict[str, JsonValue]]  # module path -> what differs from the constructor's
    tied: dict[str, str]  # state_dict name -> the name whose tensor it shares
    parameters: int
    bytes: int  # of the tensors as they are stored, each once
    layers: tuple[LayerInfo, ...]
    numbered: int | None = None  # parameters that belong to numbered neurons; versions of old do not say
    unnumbered: dict[str, int] = Field(default_factory=dict)  # module -> its other parameters, the largest first
    origins: tuple[Origin, ...] = ()
    precision: dict[str, Format] = Field(default_factory=dict)  # of the tensors that are not stored as float32
    stored_as: str = Field("float32", max_length=200)  # the formats of all tensors, the commonest first
    output: str = ""  # the path of the prediction, see `outputs`
    source: str = ""  # SHA-256 of the operator's file that defines a custom architecture

    @field_validator("attributes")
    @classmethod
    def _plain_attributes(cls, attributes: dict[str, dict[str, JsonValue]]) -> dict[str, dict[str, JsonValue]]:
        for path, values in attributes.items():
            for name, value in values.items():
                if value != "":
                    plain(value, f"{path}.{name}")
        return attributes

    @field_validator("output", "source")
    @classmethod
    def _short_path(cls, path: str) -> str:
        return label(path, "it")

    @field_validator("classes", "origins")
    @classmethod
    def _short_texts(cls, found: tuple[str | Origin, ...]) -> tuple[str | Origin, ...]:
        if any(
            len(part) > LONGEST for one in found for part in ([one] if isinstance(one, str) else vars(one).values())
        ):
            raise ValueError(f"a text has more than {LONGEST:,} characters")
        return found

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model in float32 is described as it always was, so that its digest stays."""
        found: dict[str, Any] = handler(self)
        for name, usual in (("precision", {}), ("stored_as", "float32"), ("output", ""), ("source", "")):
            if found[name] == usual:
                del found[name]
        for origin in found["origins"]:
            if not origin["file"]:
                del origin["file"]
        return found

    @field_serializer("input")
    def _only_texts_have_an_alphabet(self, input: InputSpec) -> dict[str, Any]:
        return {name: value for name, value in asdict(input).items() if name != "alphabet" or value}

    @property
    def architecture(self) -> Architecture:
        """The constructor and its arguments."""
        return Architecture(self.name, self.arguments, self.source)


def parsed(text: str) -> Description:
    """Read the description out of the text of `architecture.json`, or of the header of a file of weights.

    Raises:
        ValueError: it does not hold; the text says, in one line, which part and why.
    """
    return checked(parse(text))


def checked(found: Any) -> Description:
    """The same from data that was read.

    Raises:
        ValueError: as `parsed`.
    """
    try:
        return Description.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from error


def describe(model: Model, fresh: nn.Module | None = None) -> Description:
    """Read the description off a model; `fresh` is what its architecture constructs, if that is there already.

    Raises:
        ModelError: its modules are not those that its architecture constructs.
    """
    fresh = skeleton(model.architecture) if fresh is None else fresh
    own = tensors_of(model.module, fresh)
    rest = unnumbered(model.module, model.index)
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    written = stored(own, model.held, model.precision)
    return Description(
        name=model.architecture.name,
        arguments=json.loads(json.dumps(dict(model.architecture.arguments))),  # tuples become lists
        input=model.input,
        task=model.task,
        classes=model.classes,
        support=model.support,
        attributes=changed_attributes(model.module, fresh),
        tied=tied_names(model.module),
        parameters=parameters,
        numbered=parameters - sum(rest.values()),
        unnumbered=dict(list(rest.items())[:NAMED]),
        bytes=sum(tensor.nbytes for tensor in written.values()),
        layers=_layers(model.module, model.index),
        origins=model.origins,
        precision={name: kind for name, kind in formats_of(written).items() if name in model.precision},
        stored_as=said(written),
        output=model.output,
        source=model.architecture.source,
    )


def unnumbered(module: nn.Module, index: NeuronIndex | None) -> dict[str, int]:
    """How many parameters of each module belong to no numbered neuron, the most first.

    A parameter belongs to a neuron if one of its axes is numbered there: a row or column of a weight, say.
    """
    found: dict[str, int] = {}
    for name, parameter in module.named_parameters():
        axes = {} if index is None else index.axes
        free = 1
        for size, ids in zip(parameter.shape, axes.get(name) or (None,) * parameter.dim(), strict=True):
            free *= size if ids is None else int((ids < 0).sum())
        if free:
            owner = name.rpartition(".")[0] or name
            found[owner] = found.get(owner, 0) + free
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def tensors_of(module: nn.Module, fresh: nn.Module) -> dict[str, Tensor]:
    """Every tensor that rebuilding `module` needs, by name: its state_dict, each tied tensor once, and the buffers with
    `persistent=False` that `fresh`, newly constructed, has in another size or with other values.
    """
    tied = tied_names(module)
    state = {name: tensor for name, tensor in module.state_dict().items() if name not in tied}
    made = _unsaved_buffers(fresh)
    changed = {
        name: buffer.detach().clone()  # several may share memory, which safetensors refuses
        for name, buffer in _unsaved_buffers(module).items()
        if name in made and not _equal(buffer, made[name])
    }
    return {**state, **changed}


def _unsaved_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that a state_dict leaves out, by name."""
    saved = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers(remove_duplicate=False) if name not in saved}


def _equal(left: Tensor, right: Tensor) -> bool:
    """Whether two buffers surely hold the same; of one without memory for its values that is not known."""
    return left.dtype == right.dtype and not right.is_meta and torch.equal(left, right)


def tied_names(module: nn.Module) -> dict[str, str]:
    """Names in the state_dict that share a tensor: later name -> first name."""
    first: dict[int, str] = {}
    tied = {}
    for name, tensor in _named_tensors(module).items():
        owner = first.setdefault(id(tensor), name)
        if owner != name:
            tied[name] = owner
    return tied


def changed_attributes(module: nn.Module, fresh: nn.Module) -> dict[str, dict[str, JsonValue]]:
    """Plain attributes (numbers, texts, tuples of them) in which `module` differs from `fresh`, by module path.

    Raises:
        ModelError: the two do not have the same modules.
    """
    originals = dict(fresh.named_modules())
    present = dict(module.named_modules())
    different = [
        path for path in present.keys() | originals.keys() if _kind(present.get(path)) != _kind(originals.get(path))
    ]
    if different:
        raise ModelError(
            f"The modules {sorted(different)} are not those that the architecture constructs.",
            "Register the changed network as an architecture of its own.",
        )
    changed = {path: _differences(vars(layer), vars(originals[path])) for path, layer in present.items()}
    return {path: values for path, values in changed.items() if values}


def _kind(module: nn.Module | None) -> tuple[str, ...]:
    """The class of a module by name, because torch.fx and parametrizations make one per module; of a graph its code."""
    code = (module.code,) if isinstance(module, GraphModule) else ()
    return type(module).__module__, type(module).__qualname__, *code


def _differences(now: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Public plain attributes with another value than the constructor gave them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in now.items()
        if name in fresh and name != "training" and not name.startswith("_")
        if _plain(value) and value != fresh[name]
    }


def _plain(value: object) -> bool:
    """Whether JSON can hold a value and give it back."""
    if isinstance(value, tuple):
        return all(_plain(part) for part in value)
    return isinstance(value, (bool, int, float, str))


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor of the state_dict as the object itself, tied ones under each of their names."""
    saved = module.state_dict()
    parameters = dict(module.named_parameters(remove_duplicate=False))
    everything = {**parameters, **dict(module.named_buffers(remove_duplicate=False))}
    return {name: everything[name] for name in saved}


def _layers(module: nn.Module, index: NeuronIndex | None) -> tuple[LayerInfo, ...]:
    """The layers of the index; of a network without one, its linear and convolution modules."""
    if index is not None:
        return tuple(LayerInfo(name=x.name, kind=x.kind, neurons=len(x.rows)) for x in index.layers.values())
    found = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            found.append(LayerInfo(name=name, kind="linear", neurons=layer.out_features))
        elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            found.append(LayerInfo(name=name, kind="conv", neurons=layer.out_channels))
    return tuple(found)
