"""One network of several: modules of one network put together again, or of others, with one linear layer at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from surgery.edit.heads import restored, sizes_of
from surgery.edit.shrink import shrink
from surgery.errors import SelectionError
from surgery.network.composed import Composed
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.part import Part
from surgery.network.precision import inside as inside_of
from surgery.network.trace import trace

NAME = "composed/network"
PROVEN = 1e-3  # relative: processors round differently


@dataclass(frozen=True)
class Member:
    """A network that answers within another: with one score of its head, or without one with all its outputs.

    form: how all outputs are taken, "logits", "log_softmax" or "softmax". squash: a sigmoid after the head.
    """

    model: Model
    head: Mapping[str, Tensor] = field(default_factory=dict)
    form: str = "logits"
    squash: bool = False

    def to_json(self) -> dict[str, object]:
        """What `Composed` builds it from."""
        architecture = self.model.architecture
        about = {
            "name": architecture.name,
            "arguments": dict(architecture.arguments),
            "input": seen_by(self.model.input),
            "outputs": len(self.model.classes),
        }
        if architecture.source:
            about["source"] = architecture.source
        if self.model.output:
            about["output"] = self.model.output
        if not self.head:
            return {**about, "form": self.form}
        return {**about, "hidden": sizes_of(self.head)[1], "squash": self.squash}


def compose(members: Sequence[Member], input: InputSpec, classes: Sequence[str], weight: Tensor, bias: Tensor) -> Model:
    """A model of `classes` that takes `input`: weight · all scores + bias.

    weight: float[classes, scores], in the order of the members; bias: float[classes].
    """
    given, described = seen_by(input), [member.to_json() for member in members]
    module = Composed(given, described, len(classes), [member.model.module for member in members]).eval()
    for head, member in zip(module.heads, members, strict=True):
        head.load_state_dict(dict(member.head))
    with torch.no_grad():
        module.together.weight.copy_(weight)
        module.together.bias.copy_(bias)
    architecture = Architecture(NAME, {"input": given, "members": described, "outputs": len(classes)})
    index, support = trace(module, input.example(2))
    origins = tuple(dict.fromkeys(origin for member in members for origin in member.model.origins))
    held = {
        f"members.{place}.{name}": packing
        for place, member in enumerate(members)
        for name, packing in member.model.held.items()
    }
    precision = {
        name: kind
        for place, member in enumerate(members)
        for name, kind in inside_of(f"members.{place}.", member.model.precision).items()
    }
    return Model(
        module, architecture, input, "classification", tuple(classes), index, support, origins, held, precision
    )


def together(model: Model, parts: Sequence[Part]) -> Model:
    """The parts of one network as a classifier of their classes, each cut down to its own neurons, the surest wins.

    Tensors that several parts have whole are stored once.

    Raises:
        TraceError: the network cannot be shrunk. SelectionError: a part belongs to another network.
    """
    cut = [cut_out(model, part) for part in parts]
    share(model, cut)
    members = [Member(own, part.head) for own, part in zip(cut, parts, strict=True)]
    classes = [name for part in parts for name in part.classes]
    return compose(members, model.input, classes, torch.eye(len(parts)), torch.zeros(len(parts)))


def alone(model: Model, part: Part, other: str = "another", *, input: InputSpec | None = None) -> tuple[Model, Tensor]:
    """A module as a classifier of its own, of its class and of `other`, and int64[n], the old id of each neuron or −1.

    It answers with its class where the score is above the module's threshold. input: what it takes, by default what
    its network takes.

    Raises:
        TraceError: the network cannot be shrunk. SelectionError: the module belongs to another network.
    """
    small, kept = _cut(model, part)
    bias = torch.tensor([-part.figures.get("threshold", 0.0), 0.0])
    taken, names = input or model.input, (*part.classes, other)
    made = compose([Member(small, part.head)], taken, names, torch.tensor([[1.0], [0.0]]), bias)
    return made, inside(made, 0, small, kept)


def inside(made: Model, place: int, member: Model, old: Tensor | None = None) -> Tensor:
    """int64[N]: for each neuron of a composed model its id in one member, −1 for what is not of it.

    old: int64[n], ids to give instead, of each of the member's neurons.
    """
    assert made.index is not None
    assert member.index is not None
    ids = torch.arange(member.index.n) if old is None else old
    found = torch.full((made.index.n,), -1, dtype=torch.long)
    for name, layer in member.index.layers.items():
        found[made.index.layers[f"members.{place}.{name}"].rows] = ids[layer.rows]
    return found


def cut_out(model: Model, part: Part) -> Model:
    """The network with the neurons of a part alone and all its outputs, what its head reads."""
    return _cut(model, part)[0]


def proven(model: Model, part: Part) -> Model:
    """What `cut_out` makes, once it has said of the module's own samples what it said when it was made.

    Raises:
        SelectionError: it says something else. TraceError: as `cut_out`.
    """
    small = cut_out(model, part)
    if part.proof:
        with torch.no_grad():
            score = restored(part.head)(small(part.proof["x"]))[:, 0]
        wanted = part.proof["score"]
        if not torch.allclose(score, wanted, rtol=PROVEN, atol=PROVEN * float(wanted.abs().max())):
            raise SelectionError(
                f"The module {part.name!r} no longer says what it said of its {len(wanted)} own samples: scores differ "
                f"by up to {float((score - wanted).abs().max()):.3g}.",
                "Its version was changed or damaged: verify it on the page Versions, or split the model again.",
            )
    return small


def _cut(model: Model, part: Part) -> tuple[Model, Tensor]:
    assert model.index is not None
    return shrink(model, part.keep | model.index.fixed, part.means)


def seen_by(input: InputSpec) -> dict[str, object]:
    """An input as JSON."""
    found = asdict(input)
    return {key: list(found[key]) for key in ("shape", "mean", "std")}


def share(source: Model, members: Sequence[Model]) -> None:
    """Replace what a member has as the source has it by one and the same tensor."""
    whole = {name: nn.Parameter(tensor.detach().clone()) for name, tensor in source.module.named_parameters()}
    for member in (one.module for one in members):
        for name, parameter in list(member.named_parameters()):
            if name in whole and parameter.shape == whole[name].shape and torch.equal(parameter, whole[name]):
                path, _, leaf = name.rpartition(".")
                setattr(member.get_submodule(path), leaf, whole[name])
