"""Which architectures there are, by name, and how each is built; weights come later.

Names: "mlp", "text/decoder", "torchvision/resnet18", "sample/digits_cnn", "custom/NAME", and with extras "timm/NAME",
"hf/image-classification" or "hf/sequence-classification". Each family is one file that needs nothing of this product,
with a table of constructors: an exported model carries that very file. Custom constructors come from a Python file that
whoever starts the product names; an uploaded file never runs code.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from surgery.errors import ModelError, ModelFileError, SurgeryError
from surgery.network import operator_files
from surgery.network.arguments import checked
from surgery.network.model import Architecture
from surgery.network.plain import RefusedError
from surgery.network.restore import put
from surgery.sandbox import described

Constructor = Callable[..., nn.Module]

# In-place calls that draw initial weights: nothing to do, and slow to find that out, where there is no memory.
_FILLS = {"normal_", "uniform_", "fill_", "zero_", "mul_", "add_", "clamp_", "erfinv_"}
_FILLS |= {"kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"}


@dataclass(frozen=True)
class Definition:
    """Where a constructor is written: `vars(file)[table][key]`; of an operator's file also its checksum and bytes."""

    file: Path
    table: str
    key: str
    constructor: Constructor
    source: str = ""
    content: bytes = b""


_custom: dict[str, Definition] = {}  # by name, of the file that was given last
_sources: dict[str, dict[str, Definition]] = {}  # by checksum, then by name: of every file that was run

# Prefix of a name -> the module of its family, and the table of constructors in it.
FAMILIES = {
    "": ("mlp", "ARCHITECTURES"),
    "text": ("decoder", "ARCHITECTURES"),
    "sample": ("samples", "SAMPLES"),
    "torchvision": ("zoo", "ARCHITECTURES"),
}
# Made by surgery alone, of other networks: never tried on an upload.
MADE = {"composed": ("composed", "ARCHITECTURES"), "fleet": ("fleet", "ARCHITECTURES")}
# Families of libraries that are installed on demand: they are built by name, but not tried on every upload.
EXTRAS = {"timm": ("timm_zoo", "ARCHITECTURES"), "hf": ("hf", "ARCHITECTURES")}


def names() -> list[str]:
    """Every name that `build` knows without an extra."""
    _operator_names()
    known = [f"{prefix}/{key}".lstrip("/") for prefix, family in FAMILIES.items() for key in _family(*family)]
    return [*known, *_custom]


def extra_names() -> list[str]:
    """The names of installed extras that need no configuration."""
    try:
        return [f"timm/{key}" for key in _family(*EXTRAS["timm"])]
    except ImportError:
        return []


def definition(name: str, source: str = "") -> Definition:
    """Where `name` is defined; source: the checksum of the operator's file, where it must be a certain one.

    Raises:
        ModelError: unknown name; close ones are suggested. Or the file was never registered here.
    """
    if source and name.startswith("custom/"):
        return _pinned(name, source)
    _operator_names()
    prefix, _, key = name.rpartition("/")
    if name in _custom:
        return _custom[name]
    if prefix in FAMILIES and key in (family := _family(*FAMILIES[prefix])):
        return family[key]
    if prefix in MADE and key in (family := _family(*MADE[prefix])):
        return family[key]
    if prefix in EXTRAS:
        return _extra(prefix, key)
    raise ModelError(f"There is no architecture {name!r}.", _advice(name, names()))


def _pinned(name: str, source: str) -> Definition:
    """A custom constructor of the registered file with this checksum."""
    if source not in _sources:
        path = operator_files.registered(source)
        if path is None:
            raise operator_files.unregistered(name, source)
        _run_file(path)
    if name not in _sources[source]:
        raise ModelError(f"The Python file with SHA-256 {source[:16]}… defines no {name}.", "Register another file.")
    return _sources[source][name]


def sources(architecture: Architecture) -> set[str]:
    """The checksums of all operators' files that define it, or a network within it."""

    def within(value: Any) -> set[str]:
        if isinstance(value, Mapping):
            own = {str(value["source"])} if {"name", "arguments"} <= value.keys() and value.get("source") else set()
            return own.union(*map(within, value.values()))
        return set().union(*map(within, value)) if isinstance(value, (list, tuple)) else set()

    return within({**vars(architecture)})


def content_of(source: str) -> bytes:
    """The bytes of an operator's file.

    Raises:
        ModelError: it was never registered here.
    """
    if source in _sources:
        return next(iter(_sources[source].values())).content
    path = operator_files.registered(source)
    if path is None:
        raise operator_files.unregistered("The architecture", source)
    return path.read_bytes()


def build(architecture: Architecture) -> nn.Module:
    """Construct it with random weights, in training mode, as its constructor leaves it.

    Raises:
        ModelError: unknown name, or arguments that are not allowed or that the constructor refuses.
    """
    constructor = definition(architecture.name, architecture.source).constructor
    arguments = allowed(architecture).arguments
    try:
        module = constructor(**arguments)
    except (SurgeryError, MemoryError):
        raise
    except Exception as error:  # whatever a library raises on values that it does not like
        short = "allocate" in str(error)
        reason = "there is not enough memory for its sizes" if short else described(error)
        raise _refusal(architecture, reason) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"The constructor of {architecture.name} returned a {type(module).__name__}, not a torch.nn.Module.",
            "Return the module from it.",
        )
    _refuse_lazy(architecture, module)
    if isinstance(module, GraphModule):  # of torch.export: it has methods of its own that refuse to switch modes
        for name in ("train", "eval"):
            vars(module).pop(name, None)
    return module


def _refuse_lazy(architecture: Architecture, module: nn.Module) -> None:
    """Refuse tensors whose sizes are only known after a first run, as those of nn.LazyLinear.

    Raises:
        ModelError: naming the first of them.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if lazy := next((name for name, tensor in tensors if is_lazy(tensor)), None):
        raise ModelError(
            f"{architecture.name} leaves the size of {lazy!r} open until its first run.",
            "Give every layer its size (nn.Linear(512, 10), not nn.LazyLinear(10)), or run the network once on an "
            "example in its constructor.",
        )


def allowed(architecture: Architecture) -> Architecture:
    """The architecture with what of its arguments may reach a constructor, see `arguments.checked`, and with the
    checksum of the operator's file that defines it.

    Raises:
        ModelError: unknown name, or an argument that is not allowed.
    """
    found = definition(architecture.name, architecture.source)
    try:
        arguments = checked(architecture.name, architecture.arguments, found.constructor)
        return Architecture(architecture.name, arguments, found.source)
    except (RefusedError, RecursionError) as error:
        raise _refusal(architecture, described(error)) from error


def _refusal(architecture: Architecture, reason: str) -> ModelError:
    given = str(dict(architecture.arguments)) if isinstance(architecture.arguments, Mapping) else "such arguments"
    return ModelError(
        f"{architecture.name} cannot be built from {given if len(given) < 200 else 'its arguments'}: {reason}.",
        "Correct its arguments, or leave out what the network does not need.",
    )


def skeleton(architecture: Architecture) -> nn.Module:
    """Construct it without memory for its weights: they are on the meta device, in a hundredth of the time.

    Buffers that hold computed values (position tables) are real. A constructor that reads its own random weights
    cannot be built like this and is built with them.

    Raises:
        ModelError: as `build`. ModelFileError: `trial` stopped it, because a file holds far less.
    """
    try:
        with _Weightless():
            return build(architecture)
    except ModelFileError:  # more than the file holds: not to be tried with memory
        raise
    except ModelError:
        return build(architecture)


def filled(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    attributes: Mapping[str, Mapping[str, Any]],
    tied: Mapping[str, str],
) -> nn.Module:
    """Construct it around `tensors`, in eval mode; random weights are not drawn for it. See `restore.put`.

    Raises:
        ValueError: names that the architecture does not have.
        ModelError: as `build`.
    """
    module = skeleton(architecture)
    put(module, tensors, attributes, tied)
    if any(buffer.is_meta for buffer in module.buffers()):  # computed by the constructor and in no file
        module = build(architecture)
        put(module, tensors, attributes, tied)
    for part in module.modules():
        if any(isinstance(value, Tensor) for value in vars(part).values()):
            _without_graph(part)
            part.register_forward_hook(_without_graph)
    return module.eval()


def _without_graph(part: nn.Module, *_: Any) -> None:
    """A hook: tensors that a module keeps as plain attributes lose their history, or no copy could be made of it.

    The old `weight_norm`, `spectral_norm` and `prune` keep there the weight that they compute before each run.
    """
    for name, value in vars(part).items():
        if isinstance(value, Tensor) and value.grad_fn is not None:
            vars(part)[name] = value.detach()


class _Weightless(TorchFunctionMode):
    """Inside it, `torch.empty` (what every torch layer makes its weights with) reserves no memory.

    Unlike `with torch.device("meta")`, constructors can still compute with numbers, as torchvision's regnet does.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        target = args[0] if args else options.get("tensor")
        if func.__name__ in _FILLS and isinstance(target, Tensor) and target.is_meta:
            return target
        if func is torch.empty and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


def load_operator_file(path: Path) -> list[str]:
    """Run the Python file that the operator named when starting, and register its `ARCHITECTURES` as custom/NAME.

    Never to be called with anything that came over the network.

    Raises:
        ModelError: the file does not exist, fails, or has no table of constructors.
    """
    added = _run_file(path)
    _custom.update(added)
    return list(added)


def snippet() -> str:
    """An example of the operator's file, to be shown where a custom network is asked for."""
    return _SNIPPET


def _run_file(path: Path) -> dict[str, Definition]:
    """Run a Python file and know its constructors by its checksum; they by name."""
    spec = importlib.util.spec_from_file_location(str(path.resolve()), path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ModelError(f"There is no Python file {path}.", "Start with --architectures FILE.py.")
    content = path.read_bytes()  # what is run is what the checksum is of
    source = operator_files.checksum(content)
    if source in _sources:  # run once: classes that are made twice are not the same
        return _sources[source]
    module = _executed(path, spec, content)
    table = getattr(module, "ARCHITECTURES", None)
    if not isinstance(table, dict) or not table or not all(callable(entry) for entry in table.values()):
        raise ModelError(
            f"{path} defines no ARCHITECTURES = {{name: constructor}}.", f"Write it like this:\n{snippet()}"
        )
    found = {
        f"custom/{key}": Definition(path.resolve(), "ARCHITECTURES", key, make, source, content)
        for key, make in table.items()
    }
    _sources[source] = found
    return found


def _executed(path: Path, spec: ModuleSpec, content: bytes) -> ModuleType:
    """The content of a Python file as a module of its own."""
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for the module that they stand in
    try:
        exec(compile(content, str(path.resolve()), "exec"), vars(module))
    except Exception as error:
        del sys.modules[spec.name]
        raise ModelError(
            f"{path} failed: {type(error).__name__}: {error}.", "Correct the file and start again."
        ) from error
    return module


def _operator_names() -> None:
    """Know the operator's constructors, whose file is read once per process."""
    if named := os.environ.get(operator_files.VARIABLE):
        _operator_file(Path(named))


@cache
def _operator_file(path: Path) -> None:
    """Load the file of the environment variable once."""
    load_operator_file(path)


@cache
def _family(module_name: str, table: str) -> dict[str, Definition]:
    """One family, imported when one of its names is needed: torchvision alone takes seconds."""
    module = importlib.import_module(f"surgery.network.{module_name}")
    file = Path(str(module.__file__))
    return {key: Definition(file, table, key, constructor) for key, constructor in vars(module)[table].items()}


def _extra(prefix: str, key: str) -> Definition:
    """A constructor of a library that may not be installed.

    Raises:
        ModelError: it is not, or knows no such name.
    """
    try:
        family = _family(*EXTRAS[prefix])
    except ImportError as error:
        raise ModelError(
            f"{prefix}/{key} needs {error.name}, which is not installed.",
            f'Install it: pip install "model-surgery[{prefix}]".',
        ) from error
    if key not in family:
        close = difflib.get_close_matches(key, family, n=3, cutoff=0.5) or list(family)[:3]
        advice = f"Did you mean {', '.join(f'{prefix}/{name}' for name in close)}?"
        raise ModelError(f"There is no architecture {f'{prefix}/{key}'!r}.", advice)
    return family[key]


def _advice(name: str, known: list[str]) -> str:
    """What to do about an unknown name."""
    if name.startswith("custom/") and not _custom:
        return "Start with --architectures FILE.py, the file that defines it."
    tails = {entry.rpartition("/")[2]: entry for entry in known}
    close = difflib.get_close_matches(name.rpartition("/")[2], tails, n=3, cutoff=0.6)
    return f"Did you mean {', '.join(tails[tail] for tail in close)}?" if close else f"Known: {', '.join(known)}."


_SNIPPET = """\
# architectures.py: start with `surgery --architectures architectures.py`
import torch
from torch import nn


class Net(nn.Module):
    input_shape = (3, 32, 32)  # optional: what a sample looks like

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        return self.fc(x.mean(dim=(2, 3)))


ARCHITECTURES = {"net": Net}
"""
