"""What each torch function does to ids: the rules of the trace, one small function per kind of operation.

A rule gets the call and the ids of its inputs, tells the numbering what goes together or stays, and returns the ids of
the output. Shape operations need no rule each: the operation itself is run on the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from surgery.network import numbering, readers
from surgery.network.numbering import Numbering, real, squash, varying


class Ledger(Protocol):
    """What a rule may ask of the running trace."""

    numbering: Numbering

    def ids(self, x: Any) -> Tensor:
        """Ids of a tensor, of its own shape; −1 for the input and for constants."""

    def named(self, x: Any) -> str | None:
        """The name of a parameter or buffer."""

    def layer_of(self, weight: Tensor) -> str | None:
        """The layer whose parameters a weight is computed from; None when that is not known."""

    def columns(self, weight: str, ids: Tensor, groups: int, transposed: bool) -> Tensor:
        """Register a read of `weight` by input channels `ids: int64[in]`; return its rows."""

    def slice_by(self, name: str, axis: int, ids: Tensor) -> None:
        """Axis `axis` of parameter or buffer `name` belongs to `ids`."""


# What torch functions also accept, as NumPy spells it.
_NUMPY = {"dim": ("axis",), "input": ("x", "a")}


@dataclass(frozen=True)
class Call:
    """One torch function call: its plain name, its arguments and what came out."""

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    out: Any

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument, passed by position, by its name, or by the name that NumPy gives it."""
        if len(self.args) > position:
            return self.args[position]
        given = (self.kwargs[word] for word in (name, *_NUMPY.get(name, ())) if word in self.kwargs)
        return next(given, default)

    @property
    def x(self) -> Tensor:
        """The first argument."""
        return self.argument(0, "input")  # type: ignore[no-any-return]


Rule = Callable[[Ledger, Call], Any]


def same(ledger: Ledger, call: Call) -> Tensor:
    """Identity on ids: clone, dropout, dtype."""
    return ledger.ids(call.x)


def nothing(ledger: Ledger, call: Call) -> None:
    """The output depends on no values: sizes, types, devices."""


def factory(ledger: Ledger, call: Call) -> None:
    """A new tensor depends on the values in its arguments, not on those of the tensor whose shape it takes."""
    given = call.args[1:] if call.name.startswith("new_") or call.name.endswith("_like") else call.args
    for tensor in tensors([given, dict(call.kwargs)]):
        ledger.numbering.lose(ledger.ids(tensor), f"{call.name} copies values out of the trace")


def decide(ledger: Ledger, call: Call) -> None:
    """Values become Python numbers: the trace cannot follow them, and the code may decide by them."""
    for tensor in tensors([call.args, dict(call.kwargs)]):
        ledger.numbering.lose(ledger.ids(tensor), f"{call.name} turns values into Python objects")


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a nested value."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, slice):
        return tensors([value.start, value.stop, value.step])
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in values for tensor in tensors(item)]


def shape(ledger: Ledger, call: Call) -> Any:
    """Rule 1: run the operation on the ids of its first argument; other tensors there say where, not what."""

    def swap(value: Any) -> Any:
        if isinstance(value, Tensor):
            return ledger.ids(value)
        return type(value)(swap(v) for v in value) if isinstance(value, (tuple, list)) else value

    if not call.name.endswith("_as"):  # view_as, expand_as: only the shape of the other tensor counts
        for place in places_of(call):
            ledger.numbering.lose(ledger.ids(place), f"{call.name} takes positions computed from these neurons")
    args = (swap(call.args[0]), *call.args[1:]) if call.args else ()
    return call.func(*args, **{k: swap(v) if k in DATA else v for k, v in call.kwargs.items()})


def places_of(call: Call) -> list[Tensor]:
    """The tensors that say where: all but the first argument."""
    return tensors([call.args[1:], {k: v for k, v in call.kwargs.items() if k not in DATA}])


DATA = ("input", "self", "tensors")  # how a first argument may be named


def pad(ledger: Ledger, call: Call) -> Any:
    """Rule 1 for padding: padded positions are constants; mirrored ones carry their neuron."""
    ids, widths, mode = ledger.ids(call.x), call.argument(1, "pad"), call.argument(2, "mode", "constant")
    if mode == "constant":
        return call.func(ids, widths, value=-1)
    return call.func(ids.double(), widths, mode=mode).long()


def view(ledger: Ledger, call: Call) -> Any:
    """Rule 8: after a view the neurons must still lie along one axis."""
    if call.name == "view":  # ids are not laid out in memory as the activation is
        call = replace(call, func=Tensor.reshape)
    ids = shape(ledger, call)
    ledger.numbering.later(numbering.box, ids, f"{call.name} folds neurons together")
    return ids


def pieces(ledger: Ledger, call: Call) -> Any:
    """chunk, split: position j of each piece goes together; unequal pieces fix what they cut."""
    x, outs = ledger.ids(call.x), shape(ledger, call)
    axis = call.argument(2, "dim", 0)
    if axis % x.dim() in varying(x):
        for piece in outs[1:]:
            if piece.shape == outs[0].shape:
                ledger.numbering.unite(outs[0], piece)
            else:
                ledger.numbering.fix(x, f"{call.name} cuts unequal pieces")
    return outs


def pick(ledger: Ledger, call: Call) -> Any:
    """Slices and selects that lose some neurons fix them all: the code counts positions. So do computed positions."""
    x, out = ledger.ids(call.x), shape(ledger, call)
    if len(real(out)) < len(real(x)):
        ledger.numbering.fix(x, f"{call.name} takes neurons by position")
    if axes := axes_picked(call):
        ledger.numbering.later(numbering.apart(axes), x, f"{call.name} takes neurons by position")
    return out


MASKS = (torch.bool, torch.uint8)


def masks(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the shape of a result is the number of places where a mask is true."""
    if name == "where":
        return len(args) + len(kwargs) == 1
    return name == "getitem" and any(place.dtype in MASKS for place in tensors(list(args[1:])))


def axes_picked(call: Call) -> list[int]:
    """The axes of the first argument along which tensors, or lists of positions, select."""
    if call.name != "getitem":
        return [call.argument(1, "dim", 0) % call.x.dim()] if places_of(call) else []
    items = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    widths = [0 if i is None else i.dim() if isinstance(i, Tensor) and i.dtype in MASKS else 1 for i in items]
    free = call.x.dim() - sum(w for i, w in zip(items, widths, strict=True) if i is not Ellipsis)
    found: list[int] = []
    axis = 0
    for item, width in zip(items, widths, strict=True):
        step = free if item is Ellipsis else width
        if not isinstance(item, (int, slice, type(None), type(Ellipsis))):
            found.extend(range(axis, axis + step))
        axis += step
    return found


def roll(ledger: Ledger, call: Call) -> Any:
    """A shift by a number of positions moves other neurons to a place once some are gone."""
    ids, axes = ledger.ids(call.x), call.argument(2, "dims")
    moved = range(ids.dim()) if axes in (None, (), []) else [axes] if isinstance(axes, int) else axes
    ledger.numbering.later(numbering.apart([a % ids.dim() for a in moved]), ids, "roll moves neurons by position")
    return shape(ledger, call)


def overwrite(ledger: Ledger, call: Call) -> Any:
    """x[...] = y: nothing that meets here may go."""
    for value in tensors(call.args):
        ledger.numbering.lose(ledger.ids(value), "values are written in by position")
    return None


def pointwise(ledger: Ledger, call: Call) -> Tensor | None:
    """Rule 2: unite after broadcasting. The result carries the latest writer: a residual stream has an id per stage."""
    if not isinstance(call.out, Tensor):  # where(condition): positions
        unknown(ledger, call)
        return None
    values = [v for v in (*call.args, *call.kwargs.values()) if isinstance(v, Tensor)]
    ids = [squash(ledger.ids(value)) for value in values]
    rank = call.out.dim()
    ids = [i.reshape((1,) * (rank - i.dim()) + tuple(i.shape)) for i in ids]
    result = ids[0]
    for number, other in enumerate(ids):
        ledger.numbering.unite(result, other)
        result = torch.maximum(result, other)
        for partner, value in zip(ids, values, strict=True):
            if partner is not ids[number]:
                fix_meeting(ledger, other, partner, value, call.name)
    return result.expand(call.out.shape)


def fix_meeting(ledger: Ledger, ids: Tensor, partner: Tensor, value: Tensor, name: str) -> None:
    """Neurons that meet a constant with an entry per neuron stay: the constant cannot shrink along."""
    lead = ids.dim() - value.dim()
    axes = [axis for axis in varying(ids) if axis >= lead and value.shape[axis - lead] > 1]
    if not axes:
        return
    a, b = torch.broadcast_tensors(ids, partner)
    reason = f"{name} meets a constant with one entry per neuron"
    if bool((b < 0).all()):  # what differs now may turn out to be one neuron, as the entries of a bias table do
        ledger.numbering.later(numbering.apart(axes), a, reason)
    else:
        ledger.numbering.fix(a[b < 0], reason)


def weighted(ledger: Ledger, call: Call) -> Tensor:
    """Rule 3: linear, convolution, matmul with a parameter. Columns: one id per input position; rows: new ids."""
    x, weight = readers.operands(call.func, call.args, call.kwargs)
    name = ledger.named(weight)
    added, matmul = call.func in readers.ADDED, call.func in readers.MATMULS
    if name is None and not matmul:
        return computed(ledger, call, weight)
    if name is None or (matmul and weight.dim() != 2):
        return unknown_sum(ledger, call) if added else product(ledger, call)
    transposed = call.func in readers.TRANSPOSED or matmul or added
    bias = call.args[0] if added else None if matmul else call.argument(2, "bias")
    convolution = call.func in readers.CONVOLUTIONS or call.func in readers.TRANSPOSED
    groups = call.argument(6, "groups", 1) if convolution else 1
    ids = per_position(ledger, ledger.ids(x), readers.channel_axis(call.func, x), call.name)
    rows = ledger.columns(name, ids, groups, transposed)
    if isinstance(bias, Tensor) and (bias_name := ledger.named(bias)):
        ledger.slice_by(bias_name, 0, rows)
    axis = readers.channel_axis(call.func, call.out)
    return along_axis(rows, axis, call.out.shape)


def computed(ledger: Ledger, call: Call, weight: Tensor) -> Tensor:
    """Rule 10 for a weight that is computed on each run (weight norm, a mask, fake quantization): its inputs stay."""
    reason = f"the weight of {ledger.layer_of(weight) or call.name} is computed on each run"
    for value in tensors([call.args, dict(call.kwargs)]):
        ledger.numbering.lose(ledger.ids(value), reason)  # no gate stands before such a layer
    return unnumbered(call.out)


def per_position(ledger: Ledger, ids: Tensor, axis: int, name: str) -> Tensor:
    """int64[size of `axis`]: one id per position of `axis`, everything else there united."""
    others = [a for a in range(ids.dim()) if a != axis]
    ledger.numbering.unite_along(ids, others)
    narrow = squash(ids)
    lowest, highest = narrow.amin(others, keepdim=True), narrow.amax(others, keepdim=True)
    if bool(((lowest < 0) & (highest >= 0)).any()):
        ledger.numbering.fix(narrow, f"{name} reads neurons and constants in one channel")
    return highest.expand(*(ids.shape[a] if a == axis else 1 for a in range(ids.dim()))).reshape(-1)


def along_axis(ids: Tensor, axis: int, size: Sequence[int]) -> Tensor:
    """Lay int64[k] along `axis` of a tensor of shape `size`."""
    return ids.reshape([-1 if a == axis else 1 for a in range(len(size))]).expand(tuple(size))


def channel_norm(ledger: Ledger, call: Call) -> Tensor:
    """Rule 5: batch_norm, instance_norm, PReLU: parameters are sliced by the channel ids."""
    x = ledger.ids(call.x)
    ids = per_position(ledger, x, 1, call.name)
    for value in (*call.args[1:], *call.kwargs.values()):
        if isinstance(value, Tensor) and (name := ledger.named(value)) and value.shape == ids.shape:
            ledger.slice_by(name, 0, ids)
    return along_axis(ids, 1, x.shape)


def across(ledger: Ledger, call: Call) -> Tensor:
    """Rule 5: layer_norm, group_norm: normalised across neurons, so all of them stay."""
    ids = ledger.ids(call.x)
    ledger.numbering.fix(ids, f"{call.name} normalises across neurons")
    return ids


def pool(ledger: Ledger, call: Call) -> Any:
    """Rule 6: one id per channel."""
    out = call.out[0] if isinstance(call.out, tuple) else call.out
    ids = per_position(ledger, ledger.ids(call.x), 1, call.name)
    laid = along_axis(ids, 1, out.shape)
    return (laid, laid) if isinstance(call.out, tuple) else laid


def axes_of(call: Call) -> list[int]:
    """The reduced axes of mean, sum, softmax …: all of them when none is named."""
    dim = call.argument(1, "dim")
    rank = call.x.dim()
    if dim is None:
        return list(range(rank))
    return [d % rank for d in (dim if isinstance(dim, (tuple, list)) else [dim])]


def reduce(ledger: Ledger, call: Call) -> Any:
    """Rule 6: mean, amax, argmax, any …: if another axis tells neurons apart unite along the reduced one, else fix."""
    if isinstance(call.argument(1, "dim"), Tensor):  # max(a, b)
        return pointwise(ledger, call)
    ids, axes = ledger.ids(call.x), axes_of(call)
    ledger.numbering.later(numbering.reduced(axes), ids, f"{call.name} runs across neurons", lost=True)
    kept = ids.amax(axes, keepdim=True)
    out = call.out[0] if isinstance(call.out, tuple) else call.out
    kept = kept.reshape(out.shape)
    return (kept, kept) if isinstance(call.out, tuple) else kept


def softmax(ledger: Ledger, call: Call) -> Tensor:
    """Rule 6, with the axis still there afterwards."""
    ids = ledger.ids(call.x)
    ledger.numbering.later(numbering.reduced(axes_of(call)), ids, f"{call.name} runs across neurons")
    return ids


def glu(ledger: Ledger, call: Call) -> Tensor:
    """Position j of both halves goes together."""
    first, second = ledger.ids(call.x).chunk(2, call.argument(1, "dim", -1))
    ledger.numbering.unite(first, second)
    return torch.maximum(first, second)


def product(ledger: Ledger, call: Call) -> Tensor:
    """Rule 7: activation × activation: what meets within a batch index goes together."""
    a, b = (ledger.ids(value) for value in call.args[:2])
    lead = call.out.shape[:-2]
    sides = []
    for ids in (a, b):
        ids = ids.expand(*lead, *ids.shape[-2:]) if ids.dim() > 1 else ids.expand(*lead, 1, *ids.shape)
        ledger.numbering.unite_along(ids, [ids.dim() - 2, ids.dim() - 1])
        sides.append(ids.amax((-2, -1), keepdim=True))
    ledger.numbering.unite(*sides)
    return torch.maximum(*sides).expand(call.out.shape)


def attention(ledger: Ledger, call: Call) -> Tensor:
    """Rule 7 for scaled_dot_product_attention: a head lives and dies as one, with the query heads that share it."""
    sides = []
    for value in (call.argument(0, "query"), call.argument(1, "key"), call.argument(2, "value")):
        ids = ledger.ids(value)
        ledger.numbering.unite_along(ids, [ids.dim() - 2, ids.dim() - 1])
        sides.append(ids.amax((-2, -1), keepdim=True))
    if call.argument(7, "enable_gqa", False):
        heads = sides[0].shape[-3]
        sides = [side.repeat_interleave(heads // side.shape[-3], -3) for side in sides]
    ledger.numbering.unite(sides[0], sides[1])
    ledger.numbering.unite(sides[1], sides[2])
    return torch.maximum(torch.maximum(sides[0], sides[1]), sides[2]).expand(call.out.shape)


def unknown_sum(ledger: Ledger, call: Call) -> Tensor:
    """addmm of activations: nothing is known of it."""
    unknown(ledger, call)
    return unnumbered(call.out)


def unknown(ledger: Ledger, call: Call) -> None:
    """Rule 10: fix what goes in."""
    for tensor in tensors([call.args, dict(call.kwargs)]):
        ledger.numbering.lose(ledger.ids(tensor), f"no rule for {call.name}")


def unnumbered(out: Tensor) -> Tensor:
    """Ids of an output that carries no neurons."""
    return torch.tensor(-1).expand(out.shape)
