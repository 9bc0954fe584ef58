"""Tensors -> Model: the named architecture around somebody's weights, checked, run once and traced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from surgery import sandbox
from surgery.errors import Mismatch, MismatchError, ModelError, ModelFileError, SurgeryError
from surgery.network import steps
from surgery.network.architectures import allowed, filled, skeleton
from surgery.network.description import Description, parsed
from surgery.network.facts import listed
from surgery.network.matching import (
    Expected,
    Suggestion,
    compare,
    completed,
    expected,
    misfits,
    native,
    prefix,
    suggest,
)
from surgery.network.model import Architecture, InputSpec, Model, Origin, Task
from surgery.network.outputs import candidates, named, pick, plausible, prediction, shapes
from surgery.network.packed import packings
from surgery.network.precision import Format, formats_of
from surgery.network.read import Weights
from surgery.network.restore import unpacked, widened
from surgery.network.trace import trace

__all__ = [
    "Suggestion",
    "assemble",
    "compare",
    "completed",
    "guess_input",
    "input_spec",
    "rebuilt",
    "reopen",
    "suggest",
    "takes",
]

# What the ImageNet models of torchvision were trained with, per channel on the 0–1 scale.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Heights = widths that are tried, the commonest first: a network that flattens runs at one of them only.
_SIZES = (
    *(224, 32, 28, 64, 48, 96, 128, 256, 299, 384, 512, 8, 16, 24, 12, 20, 36, 40, 56, 72, 80, 100, 112, 120, 144),
    *(150, 160, 180, 192, 200, 240, 260, 300, 320, 336, 331, 380, 400, 448, 456, 480, 528, 600, 640),
)
_LARGEST = 320  # pixels of a side: up to here every size is tried
CONTEXT = 64  # characters, where a network does not say how many it takes
LARGEST_SAMPLE = 1 << 24  # values of one sample
# How torch's messages call the types other than float32.
_PRECISIONS = {"BFloat16": "bfloat16", "Half": "float16", "double": "float64", "Double": "float64"}
CHARACTERS = 0x110000  # there are no more


def guess_input(tensors: Mapping[str, Tensor], architecture: Architecture, sample: Sequence[int] = ()) -> InputSpec:
    """What goes into the network, as far as the weights tell; the user confirms it.

    Channels or features are those of the first layer. The image size is what the network says of itself in an
    attribute `input_shape`, or the commonest one at which it runs; where that is larger than the pictures at hand
    and the network takes them as they are, their size.

    Where the weights begin with an embedding, a text goes in: as many characters as a second embedding has places, and
    the alphabet is left as numbers.

    sample: (channels, height, width) of a picture at hand, or (context,) of a text.

    Raises:
        ModelError: the architecture cannot be built.
    """
    wanted = expected(architecture)
    tables = [part for part in skeleton(architecture).modules() if isinstance(part, nn.Embedding)]
    outputs = next((shape[0] for shape in reversed([*wanted.shapes.values()]) if shape), 0)
    if tables and tables[0].num_embeddings == outputs <= CHARACTERS:  # what goes in is what may follow
        context = tables[1].num_embeddings if len(tables) > 1 else sample[0] if len(sample) == 1 else CONTEXT
        return InputSpec("text", (context,), alphabet=tuple(map(str, range(tables[0].num_embeddings))))
    shapes = [tuple(tensors[name].shape) if name in tensors else shape for name, shape in wanted.shapes.items()]
    channels = next((shape[1] for shape in shapes if len(shape) == 4), None)
    if channels is None:
        features = next((shape[1] for shape in shapes if len(shape) == 2), 1)
        return InputSpec("table", (features,), (0.0,) * features, (1.0,) * features)
    height, width = _height_and_width(skeleton(architecture), channels, tuple(sample[1:]))
    imagenet = architecture.name.startswith("torchvision/") and channels == 3
    mean, std = _IMAGENET if imagenet else ((0.0,) * channels, (1.0,) * channels)
    return InputSpec("image", (channels, height, width), mean, std)


def assemble(
    tensors: Mapping[str, Tensor],
    architecture: Architecture,
    *,
    input: InputSpec,
    classes: Sequence[str],
    task: Task = "classification",
    origin: Origin | None = None,
    output: str = "",
) -> Model:
    """The architecture with these weights, traced, in eval mode, fp32, on the CPU; the tensors are copied.

    classes: the labels of the logits in order; for regression the name of the one target. origin: of the weights.
    output: the path of the prediction; it is asked for only where a network returns several that can be one.

    Raises:
        MismatchError: names or shapes differ; `rows` is the table.
        ModelError: the architecture is unknown, does not run on such an input, or has another number of outputs.
    """
    architecture = allowed(architecture)
    tensors = native(tensors, architecture)
    rows = misfits(tensors, architecture)
    if rows:
        raise MismatchError(
            f"The weights do not fit {architecture.name}: {_summary(rows)}.",
            "Choose another architecture, or correct its arguments.",
            rows,
        )
    wanted = expected(architecture)
    module = filled(architecture, _fitting(tensors, architecture, wanted), {}, wanted.tied)
    model = _finished(module, architecture, input, tuple(classes), task, output)
    return replace(model, origins=(origin,) if origin else (), precision=_precision(tensors, module, wanted))


FLEET = "fleet/members"


def reopen(weights: Weights) -> Model:
    """The model in a file that this product saved: its description says how to build it, nothing has to be asked.

    Raises:
        ModelFileError: the file has no description, or one that does not hold.
        ModelError: its architecture is not known here.
    """
    with sandbox.reading(weights.file.name, ModelFileError, "Export the model again."):
        module, found = rebuilt(weights)
        index, support = trace(module, found.input.example(2))
        held = packings(weights.tensors)
        precision = {name: kind for name, kind in found.precision.items() if name in weights.tensors}
    return Model(
        module,
        found.architecture,
        found.input,
        found.task,
        found.classes,
        index,
        support,
        origins=found.origins,
        held=held,
        precision=precision,
        output=found.output,
    )


def rebuilt(weights: Weights) -> tuple[nn.Module, Description]:
    """The network that a file describes, around its weights, run once; and the description, its arguments checked.

    Raises:
        ModelFileError, ModelError: as `reopen`.
    """
    name = weights.file.name
    if weights.description is None:
        raise ModelFileError("The file does not say which architecture it belongs to.", "Choose its architecture.")
    try:
        found = parsed(weights.description)
        if found.name == FLEET:
            raise ModelFileError("This file holds a fleet of several models.", "Import its models one by one.")
        known = allowed(found.architecture)
        found = found.model_copy(update={"arguments": known.arguments, "source": known.source})
        tensors = {name: tensor.clone() for name, tensor in widened(unpacked(weights.tensors), found.precision).items()}
        module = filled(found.architecture, tensors, found.attributes, found.tied)
    except ValueError as error:
        raise ModelFileError(
            f"The description in {name} does not hold: {sandbox.described(error)}.", "Export the model again."
        ) from error
    _check(module, found.input, found.classes, found.task, found.output, recorded=True)
    return module, found


def input_spec(given: Mapping[str, Any], alphabet: Sequence[str] = ()) -> InputSpec:
    """An input as JSON has it: {"kind", "shape", "mean", "std"}; alphabet: of a text.

    Raises:
        ModelError: a part of it is missing or of another type.
    """
    try:
        return TypeAdapter(InputSpec).validate_python({**given, "alphabet": tuple(alphabet)})
    except (TypeError, ValidationError) as error:
        raise ModelError(
            f"The input is not described by its kind, shape, mean and std: {sandbox.described(error)}.",
            'Give for instance {"kind": "image", "shape": [3, 32, 32], "mean": [0, 0, 0], "std": [1, 1, 1]}.',
        ) from error


def _finished(
    module: nn.Module,
    architecture: Architecture,
    input: InputSpec,
    classes: tuple[str, ...],
    task: Task,
    output: str = "",
) -> Model:
    """Check the input and the outputs by running once, then trace."""
    output = _check(module, input, classes, task, output)
    index, support = trace(module, input.example(2))
    return Model(module, architecture, input, task, classes, index, support, output=output)


def _check(
    module: nn.Module, input: InputSpec, classes: tuple[str, ...], task: Task, output: str, recorded: bool = False
) -> str:
    """The path of the prediction, after running the network once.

    recorded: `output` is what the import of the model settled; "" then means the first of several.

    Raises:
        ModelError: an input that no sample can have, several outputs that may be the prediction, or classes that are
            not those of the output.
    """
    _check_input(input)
    example = input.example(2)
    out = _run(module, example)
    if not recorded:
        output = prediction(out, example, output, len(input.alphabet))
    _check_outputs(_logits(out, output, example), classes, task)
    _check_batches(module, input, output)
    tables = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    if input.kind == "text" and len(input.alphabet) not in tables:
        raise ModelError(
            f"The network has no embedding of {len(input.alphabet)} characters, but of {tables or 'none'}.",
            "Only models of characters whose answer is the next character are supported.",
        )
    if input.kind == "text" and classes != input.alphabet:
        raise ModelError(
            f"The model reads {len(input.alphabet)} characters and names {len(classes)} others that may follow.",
            "Give the same alphabet for both, in the order of the weights.",
        )
    return output


def _fitting(tensors: Mapping[str, Tensor], architecture: Architecture, wanted: Expected) -> dict[str, Tensor]:
    """Copies of the tensors under the architecture's names and in its types; each tied tensor once.

    Raises:
        ModelError: a weight is stored as integers, or tied tensors differ.
    """
    extra = prefix(tensors, wanted)
    found = {name.removeprefix(extra): tensor for name, tensor in tensors.items()}
    for alias, name in wanted.tied.items():
        found.setdefault(name, found.get(alias, torch.empty(0)))
        if alias in found and not torch.equal(found[alias], found[name]):
            raise ModelError(
                f"{architecture.name} shares one tensor between {alias!r} and {name!r}, the weights have two.",
                "Register the network that was trained as an architecture of its own.",
            )
    types = {name: tensor.dtype for name, tensor in skeleton(architecture).state_dict().items()}
    counters = {name: torch.zeros((), dtype=torch.long) for name in wanted.shapes if name not in found}
    return {
        name: _typed(name, tensor, types[name])
        for name, tensor in {**counters, **found}.items()
        if name not in wanted.tied
    }


def _precision(tensors: Mapping[str, Tensor], module: nn.Module, wanted: Expected) -> dict[str, Format]:
    """The formats of the tensors in the file, of those that the module computes with in float32."""
    extra, state = prefix(tensors, wanted), module.state_dict()
    brought = {name.removeprefix(extra): kind for name, kind in formats_of(tensors).items()}
    own = {wanted.tied.get(name, name): kind for name, kind in brought.items()}
    return {name: kind for name, kind in own.items() if name in state and state[name].dtype == torch.float32}


def _typed(name: str, tensor: Tensor, wanted: torch.dtype) -> Tensor:
    """A contiguous copy in the wanted type."""
    if wanted.is_floating_point and not tensor.is_floating_point():
        raise ModelError(
            f"The weight {name!r} is stored as {tensor.dtype}, not as floating-point numbers.",
            "Bring the weights from before they were quantized.",
        )
    return torch.empty(tensor.shape, dtype=wanted).copy_(tensor)


def _check_input(input: InputSpec) -> None:
    """Refuse an input that no sample can have."""
    if (input.kind == "text" and len(set(input.alphabet)) != len(input.alphabet)) or (input.kind == "text") != bool(
        input.alphabet
    ):
        raise ModelError(
            "A text model needs an alphabet of different characters.", "Choose the text that it was trained on."
        )
    axes = {"image": 3, "table": 1, "text": 1}[input.kind]
    if len(input.shape) != axes or min(input.shape) < 1:
        raise ModelError(
            f"The input shape {list(input.shape)} of a model for {input.kind}s is not allowed.",
            "Give channels, height and width, or the number of features or of characters.",
        )
    if math.prod(input.shape) > LARGEST_SAMPLE:
        raise ModelError(
            f"One sample of the shape {list(input.shape)} has more than {LARGEST_SAMPLE:,} values.",
            "Give the size that the network was trained on.",
        )
    if input.kind == "text":
        return
    if not len(input.mean) == len(input.std) == input.shape[0]:
        raise ModelError(
            f"The normalisation has {len(input.mean)} means and {len(input.std)} deviations "
            f"for {input.shape[0]} channels or features.",
            "Give one of each per channel or feature.",
        )
    if not all(map(math.isfinite, (*input.mean, *input.std))) or min(input.std) <= 0:
        raise ModelError(f"The normalisation deviation {list(input.std)} is not allowed.", "Give positive numbers.")


def returned(architecture: Architecture, input: InputSpec) -> tuple[dict[str, list[int]], list[str]]:
    """(the shape of every output for one sample, by path; the paths of those that can be the prediction).

    Found on the device "meta": nothing is computed.

    Raises:
        ModelError: the network does not run on such an input.
    """
    example = input.example(2).to("meta")
    found = named(_run(skeleton(architecture).to("meta").eval(), example))
    return shapes(found), candidates(found, example, len(input.alphabet))


def _run(module: nn.Module, example: Tensor) -> Any:
    """What the module returns for the example.

    Raises:
        ModelError: it does not accept it.
    """
    try:
        with torch.no_grad():
            return module(example)
    except SurgeryError:
        raise
    except Exception as error:  # whatever a network raises on an input that it does not like
        reason = "there is not enough memory" if "allocate" in str(error) else sandbox.described(error)
        shape = list(example.shape[1:])
        if precision := _computes_in(module, str(error)):
            raise ModelError(
                f"The network does not run on float32 samples: it computes in {precision} ({reason}).",
                "Build it in float32: remove .half(), .bfloat16() or .double() from its constructor and its forward. "
                "Weights stored in another precision are converted.",
            ) from error
        raise ModelError(
            f"The network does not run on an input of shape {shape}: {reason}.", "Correct the input shape."
        ) from error


def _logits(out: Any, path: str, example: Tensor) -> Tensor:
    """float[batch, classes]: the prediction in what a network returned.

    Raises:
        ModelError: there is none, or it is something else than one row per sample.
    """
    found = pick(out, path) if named(out) else out
    text = not example.is_floating_point()
    if text and isinstance(found, Tensor) and found.dim() == 3 and found.shape[:2] == example.shape:
        found = found[:, -1]
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(example):
        said = list(found.shape[1:]) if isinstance(found, Tensor) else type(found).__name__
        several = shapes(named(out))
        raise ModelError(
            f"The network gives {said} for one sample, not a list of logits."
            + (f" Its outputs are {listed(several)}." if len(several) > 1 else ""),
            "Only classification, regression of one target and the next character of a text are supported.",
        )
    return found


def _computes_in(module: nn.Module, reason: str) -> str:
    """The floating-point type other than float32 over which a run failed; "" where that is not why."""
    named = next((kind for word, kind in _PRECISIONS.items() if word in reason), "")
    own = {str(tensor.dtype).removeprefix("torch.") for tensor in module.parameters() if tensor.is_floating_point()}
    return named if "float" in reason.lower() or own - {"float32"} else ""


def _check_batches(module: nn.Module, input: InputSpec, output: str) -> None:
    """Refuse a network that only takes the number of samples of the example: a last batch may hold one.

    Raises:
        ModelError: naming the step at which the results lose or change an axis.
    """
    for count in (1, 3):
        try:
            _logits(_run(module, input.example(count)), output, input.example(count))
        except ModelError as error:
            step = steps.reshaped(module, input.example(2), input.example(count))
            raise ModelError(
                f"The network runs on 2 samples at once but not on {count}{f': {step} goes wrong' if step else ''}.",
                "Keep the first axis for the samples: x.flatten(1) instead of x.squeeze(), x.view(len(x), -1) instead "
                "of a fixed number; export it with a dynamic batch size.",
            ) from error


def _check_outputs(out: Tensor, classes: tuple[str, ...], task: Task) -> None:
    """Refuse class names that do not fit the outputs."""
    count = out.shape[1]
    if len(set(classes)) != len(classes):
        raise ModelError(f"The class names {list(classes)} repeat themselves.", "Give each class its own name.")
    if len(classes) != count or (task == "regression" and count != 1):
        things = "target" if task == "regression" else "class"
        raise ModelError(
            f"The network has {count} outputs, {len(classes)} {things} name(s) are given.",
            f"Give {count} class names." if task == "classification" else "Regression needs a network with one output.",
        )


def _height_and_width(module: nn.Module, channels: int, pictures: tuple[int, ...]) -> tuple[int, int]:
    """What the module declares, or the first of the usual sizes at which it gives logits, `pictures` if smaller.

    Where no usual size will do: `pictures`, or the roundest of the other sizes at which it gives logits.
    """
    declared: Sequence[int] = getattr(module, "input_shape", ())
    if len(declared) == 3:
        return int(declared[1]), int(declared[2])
    module = module.to("meta").eval()
    usual = next((size for size in _SIZES if takes(module, (channels, size, size))), None)
    fits = len(pictures) == 2 and (usual is None or max(pictures) < usual) and takes(module, (channels, *pictures))
    if fits:
        return pictures[0], pictures[1]
    size = usual or _unusual(module, channels)
    return size, size


def _unusual(module: nn.Module, channels: int) -> int:
    """The roundest size (the one that halves most often) of the first that a network takes; the commonest for none."""
    others = [size for size in range(2, _LARGEST + 1) if size not in _SIZES]
    taken: list[int] = []
    for size in others:
        if takes(module, (channels, size, size)):
            taken.append(size)
        elif taken:
            break
    return max(taken, key=lambda size: size & -size, default=_SIZES[0])


def takes(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a network gives logits for inputs of this shape; on the device "meta" only shapes are computed."""
    weight = next(module.parameters(), None)
    try:
        example = torch.zeros(2, *shape, device=weight.device if weight is not None else "cpu")
        out = _run(module, example)
        found = named(out)
        _logits(out, next(iter(plausible(found, example)), next(iter(found), "")), example)
    except ModelError:
        return False
    return True


def _summary(rows: Sequence[Mismatch]) -> str:
    """The first rows in words: "12 tensors differ: fc.weight is [10, 512], should be [1000, 512]; …"."""
    words = {
        "missing": "{0.name} {0.architecture} is missing",
        "unexpected": "{0.name} {0.file} is unexpected",
        "shape": "{0.name} is {0.file}, should be {0.architecture}",
    }
    first = "; ".join(words[row.kind].format(row) for row in rows[:3])
    return f"{len(rows)} tensors differ: {first}{'; …' if len(rows) > 3 else ''}"
