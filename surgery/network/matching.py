"""Which architecture do these weights belong to? Names and shapes are compared; no weight is ever made for it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from torch import Tensor

from surgery.errors import Mismatch, ModelError
from surgery.network import architectures
from surgery.network.architectures import Definition
from surgery.network.description import tied_names
from surgery.network.model import Architecture

Shapes = Mapping[str, tuple[int, ...]]

_LIKENESS = 0.2  # share of common name patterns below which a family is not looked at
_NEAR = 0.5  # share of tensors, or of names of one's own class, that must agree for a suggestion
# How constructors call the number of outputs …
_CLASSES = (
    *("num_classes", "classes", "n_classes", "nb_classes", "num_class", "n_class", "class_num", "num_labels"),
    *("n_labels", "num_outputs", "n_outputs", "out_dim", "output_dim", "output_size", "out_features"),
)
_CHANNELS = ("in_channels", "channels", "in_chans", "input_channels", "num_channels", "in_ch")  # … of input planes …
_FEATURES = ("in_features", "num_features", "n_features", "input_size", "input_dim", "in_dim")  # … and of features
_HEADS = (4, 2, 8, 1, 6)  # how many may share a width, which weights do not say
_COUNTER = ".num_batches_tracked"  # of BatchNorm: old files lack it, and inference does not read it


@dataclass(frozen=True)
class Suggestion:
    """An architecture that weights may belong to, and what does not fit.

    needs: arguments of its constructor that the weights do not tell; with any, nothing was compared.
    """

    architecture: Architecture
    mismatches: tuple[Mismatch, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
    """What an architecture wants: shapes by name in its own order, and names that share another's tensor."""

    shapes: Shapes
    tied: Mapping[str, str]
    has_auxiliary: bool  # whether it can carry heads that only training uses


def suggest(tensors: Mapping[str, Tensor], limit: int = 5) -> list[Suggestion]:
    """The architectures that fit, best first, with classes, channels and sizes read off the tensors.

    First those that fit exactly, then the operator's own whose constructors need more than the tensors tell, then those
    that nearly fit. Any other is left out, so the list can be empty.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    perceptron = _perceptron(shapes)
    plain = [*([perceptron] if perceptron else []), *_decoders(shapes)]
    drafts = [_drafted(Architecture(name), shapes) for name in _candidates(shapes)]
    roughly = _best([one.architecture for one in drafts if not one.needs], shapes, 2 * limit)
    fitted = [_fitted(one, shapes) for one in roughly]
    best = [Suggestion(one, tuple(compare(tensors, one))) for one in _best([*plain, *fitted], shapes, limit)]
    exact = [one for one in best if not one.mismatches]
    near = [one for one in best if one.mismatches and _is_near(one.architecture, shapes)]
    return [*exact, *(one for one in drafts if one.needs), *near][:limit]


def completed(tensors: Mapping[str, Tensor], architecture: Architecture) -> Suggestion:
    """The architecture with those of its arguments that were not given and can be read off the tensors.

    Raises:
        ModelError: it cannot be built.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    draft = _drafted(architecture, shapes)
    if draft.needs:
        return draft
    found = _fitted(draft.architecture, shapes, given=frozenset(architecture.arguments))
    return Suggestion(found, tuple(compare(tensors, found)))


def compare(tensors: Mapping[str, Tensor], architecture: Architecture) -> list[Mismatch]:
    """Where the tensors and the architecture disagree, in the architecture's order; [] = they fit.

    Raises:
        ModelError: the architecture cannot be built.
    """
    return misfits(native(tensors, architecture), architecture)


def native(tensors: Mapping[str, Tensor], architecture: Architecture) -> Mapping[str, Tensor]:
    """The tensors under the names of the network: files of `save_pretrained` have names of an older release.

    Raises:
        ModelError: the architecture cannot be built.
    """
    if not architecture.name.startswith("hf/"):
        return tensors
    module = architectures.skeleton(architecture)  # first: it says when the library is not installed
    from surgery.network import hf_names

    return hf_names.loaded(module, tensors)


def misfits(tensors: Mapping[str, Tensor], architecture: Architecture) -> list[Mismatch]:
    """`compare` of tensors that are `native`."""
    wanted = expected(architecture)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return _mismatches(aligned(shapes, wanted), wanted)


def expected(architecture: Architecture) -> Expected:
    """Names and shapes that the architecture wants.

    Raises:
        ModelError: it cannot be built.
    """
    known = architectures.allowed(architecture)
    definition = architectures.definition(known.name, known.source)
    return _expected(definition, known.name, json.dumps(dict(known.arguments), sort_keys=True))


def prefix(names: Mapping[str, object], wanted: Expected) -> str:
    """What stands before every name of the file and none of the architecture: "model.", as trainers wrap networks."""
    first = {name.partition(".")[0] for name in names}
    found = f"{first.pop()}." if len(first) == 1 else ""
    return "" if any(name.startswith(found) for name in wanted.shapes) else found


def aligned(shapes: Shapes, wanted: Expected) -> Shapes:
    """The shapes under the architecture's names: without the file's common prefix."""
    extra = prefix(shapes, wanted)
    return {name.removeprefix(extra): shape for name, shape in shapes.items()}


def _mismatches(shapes: Shapes, wanted: Expected) -> list[Mismatch]:
    """Missing and wrongly shaped tensors in the architecture's order, then unexpected ones in the file's."""
    found = []
    for name, shape in wanted.shapes.items():
        if name not in shapes:
            if name not in wanted.tied and not name.endswith(_COUNTER):
                found.append(Mismatch(name, "missing", None, shape))
        elif shapes[name] != shape:
            found.append(Mismatch(name, "shape", shapes[name], shape))
    surplus = (name for name in shapes if name not in wanted.shapes)
    return [*found, *(Mismatch(name, "unexpected", shapes[name], None) for name in surplus)]


def _best(choices: list[Architecture], shapes: Shapes, limit: int) -> list[Architecture]:
    """Those that share most tensors with the file, best first."""
    shares = [(_likely(one, shapes), one) for one in choices]
    shares.sort(key=lambda entry: (-entry[0], entry[1].name))
    return [one for share, one in shares[:limit] if share > 0]


def _likely(architecture: Architecture, shapes: Shapes) -> float:
    """How much speaks for an architecture: the share of its tensors, and a little the share of its names."""
    return _share(architecture, shapes) + (
        _share(architecture, shapes, names=True) / 1000 if _is_own(architecture) else 0
    )


def _is_near(architecture: Architecture, shapes: Shapes) -> bool:
    """Whether it may be the one although tensors differ; of one's own class the arguments may be others."""
    return _share(architecture, shapes, names=_is_own(architecture)) >= _NEAR


def _is_own(architecture: Architecture) -> bool:
    return architecture.name.startswith("custom/")


def _share(architecture: Architecture, shapes: Shapes, *, names: bool = False) -> float:
    """Fraction of all tensors, the file's and the architecture's, that agree in name and shape, or in name alone."""
    try:
        wanted = expected(architecture)
    except ModelError:  # a custom constructor that refuses the arguments which were read off
        return 0.0
    own = aligned(shapes, wanted)
    agreed = own.keys() & wanted.shapes.keys() if names else own.items() & wanted.shapes.items()
    return len(agreed) / (len(shapes) + len(wanted.shapes) - len(agreed))


def _candidates(shapes: Shapes) -> list[str]:
    """The names worth a comparison: of torchvision's many only families whose tensors are called alike."""
    known = [name for name in architectures.names() if name not in ("mlp", "text/decoder")]
    zoo = [name for name in known if name.startswith("torchvision/")]
    return [*(name for name in known if name not in zoo), *_alike(zoo, shapes)]


def _alike(zoo: list[str], shapes: Shapes) -> list[str]:
    """Members of the families whose names look most like the file's: one of each family is constructed first."""
    import torchvision

    families: dict[str, list[str]] = {}
    for name in zoo:
        builder = torchvision.models.get_model_builder(name.removeprefix("torchvision/"))
        families.setdefault(builder.__module__, []).append(name)
    likeness = {family: _likeness(shapes, Architecture(members[0])) for family, members in families.items()}
    enough = max(_LIKENESS, max(likeness.values()) / 2)
    return [name for family, members in families.items() if likeness[family] >= enough for name in members]


def _likeness(shapes: Shapes, architecture: Architecture) -> float:
    """Common share, 0–1, of the name patterns: names with their numbers taken out."""
    wanted = expected(architecture)
    ours, theirs = ({re.sub(r"\d+", "#", name) for name in names} for names in (aligned(shapes, wanted), wanted.shapes))
    return len(ours & theirs) / len(ours | theirs)


def _drafted(architecture: Architecture, shapes: Shapes) -> Suggestion:
    """The architecture with a first guess of each argument that its constructor cannot do without."""
    name, given = architecture.name, dict(architecture.arguments)
    if name in _CHAINS and not given.keys() & {"sizes", "alphabet"}:
        found = next(iter(_CHAINS[name](shapes)), None)
        return Suggestion(Architecture(name, {**found.arguments, **given} if found else given), ())
    parameters = inspect.signature(architectures.definition(name).constructor).parameters.values()
    required = [one.name for one in parameters if one.default is one.empty and one.kind in _NAMED]
    guesses = _guesses(shapes)
    known = {key: guesses[key] for key in required if key in guesses} | given
    return Suggestion(Architecture(name, known), (), tuple(key for key in required if key not in known))


def _guesses(shapes: Shapes) -> dict[str, int]:
    """Argument -> its value as the first and last tensors tell it, whatever a constructor calls it."""
    matrices = [shape for shape in shapes.values() if len(shape) >= 2]
    planes = [shape[1] for shape in matrices if len(shape) == 4][:1]
    features = [shape[1] for shape in matrices if len(shape) == 2][:1]
    read = ((_CLASSES, [matrices[-1][0]] if matrices else []), (_CHANNELS, planes), (_FEATURES, features))
    return {word: found[0] for words, found in read if found for word in words}


def _fitted(architecture: Architecture, shapes: Shapes, given: frozenset[str] = frozenset()) -> Architecture:
    """The architecture with those arguments that the shapes of its own first and last tensors tell; `given` stay."""
    name, arguments = architecture.name, dict(architecture.arguments)
    if name.startswith("hf/"):
        return _labelled(architecture, shapes)
    parameters = inspect.signature(architectures.definition(name).constructor).parameters
    wanted = expected(architecture)
    shapes = aligned(shapes, wanted)
    head = [key for key, shape in wanted.shapes.items() if len(shape) >= 2][-1:]
    first = [key for key, shape in wanted.shapes.items() if len(shape) == 4][:1]
    table = [key for key, shape in wanted.shapes.items() if len(shape) == 2][:1]
    for found, axis, spellings in ((head, 0, _CLASSES), (first, 1, _CHANNELS), (table, 1, _FEATURES)):
        spelling = next((word for word in spellings if word in parameters), None)
        if spelling and spelling not in given and found and len(shapes.get(found[0], ())) > axis:
            count = shapes[found[0]][axis]
            if count != arguments.get(spelling, parameters[spelling].default):
                arguments[spelling] = count
    if wanted.has_auxiliary and "aux_logits" not in given and any(key.lower().startswith("aux") for key in shapes):
        arguments["aux_logits"] = True
    return Architecture(name, arguments)


def _labelled(architecture: Architecture, shapes: Shapes) -> Architecture:
    """A Hugging Face configuration that does not say how many classes there are, with as many as the head has rows."""
    config = dict(architecture.arguments.get("config", {}))
    wanted = expected(architecture)
    head = [key for key, shape in wanted.shapes.items() if len(shape) >= 2][-1:]
    rows = aligned(shapes, wanted).get(head[0], ()) if head else ()
    if not rows or config.keys() & {"id2label", "num_labels"}:
        return architecture
    return Architecture(architecture.name, {**architecture.arguments, "config": {**config, "num_labels": rows[0]}})


def _perceptron(shapes: Shapes) -> Architecture | None:
    """An MLP, if the tensors are nothing but a chain of linear layers; its activation cannot be seen: relu."""
    names = [name[: -len(".weight")] for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2]
    biases = [f"{name}.bias" in shapes for name in names]
    if not names or len(set(biases)) != 1 or len(shapes) != len(names) * (1 + biases[0]):
        return None
    for ordered in (names, sorted(names, key=_natural)):
        weights = [shapes[f"{name}.weight"] for name in ordered]
        if all(before[0] == after[1] for before, after in pairwise(weights)):
            arguments: dict[str, object] = {"sizes": [weights[0][1], *(rows for rows, _ in weights)]}
            arguments |= {} if biases[0] else {"bias": False}
            usual = [str(2 * number) for number in range(len(ordered))]
            return Architecture(
                "mlp", {**arguments, "activation": "relu", **({} if ordered == usual else {"names": ordered})}
            )
    return None


def _decoders(shapes: Shapes) -> list[Architecture]:
    """Our own decoder by the sizes of its tensors, once for each number of heads that may share its width."""
    first, places, up = (shapes.get(f"{name}.weight") for name in ("characters", "positions", "blocks.0.up"))
    if first is None or places is None or up is None or not len(first) == len(places) == len(up) == 2:
        return []
    depth = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    sizes = {"alphabet": first[0], "context": places[0], "width": first[1], "depth": depth, "hidden": up[0]}
    return [Architecture("text/decoder", {**sizes, "heads": heads}) for heads in _HEADS if first[1] % heads == 0]


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# Networks of our own whose sizes all follow from their tensors.
_CHAINS: Mapping[str, Callable[[Shapes], Iterable[Architecture]]] = {
    "mlp": lambda shapes: [found] if (found := _perceptron(shapes)) else [],
    "text/decoder": _decoders,
}


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key under which fc2 comes before fc10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@cache
def _expected(definition: Definition, name: str, arguments: str) -> Expected:
    """`expected`, once per process; the definition is part of the key because custom names can be redefined."""
    module = architectures.skeleton(Architecture(name, json.loads(arguments), definition.source))
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    return Expected(shapes, tied_names(module), hasattr(module, "aux_logits"))
