"""Number the neurons of any network by running it once, with ids beside the activations.

The model's own forward runs on an example under a function mode; `rules` say what each call does to the ids. Nothing
is symbolic, so functional code, reused layers, loops and value-dependent branches just work. The numbering is then
tried: the network is cut at random, traced again (a certificate: every reader must read the old kept columns) and
compared with the gated one. A step that cannot shrink is fixed and tried again; what cannot be cut can still be gated.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.errors import SurgeryError, TraceError
from surgery.network import certificate, readers, rules, vocabulary
from surgery.network.index import Layer, NeuronIndex, fixed_by, single_groups
from surgery.network.model import Support
from surgery.network.numbering import Numbering, rooted, varying
from surgery.network.rules import Call

ROUNDS = 40  # of fixing the step at which a cut network stops
SLOTS = 2_000_000  # elements of bare parameters that are followed one by one
# What a network's own code may raise, for instance because a cut left it fewer pieces than it unpacks.
FAILURES = (TypeError, ValueError, KeyError, AttributeError, IndexError, AssertionError, RuntimeError, ArithmeticError)
SECONDS = 600.0  # that one run may take: a minute on two cores is common for large transformers
BYTES = 12 * 2**30  # of activations and ids that one run may hold


def trace(module: nn.Module, example: Tensor, *, verify: bool = True) -> tuple[NeuronIndex | None, Support]:
    """Number `module` on `example: float[batch, ...]`; say how much of the product works on it.

    `verify=False` skips the trial cut. The module is left as it was. Never raises for a network it cannot number:
    the support level and its reason say so ("inspect": no index; "gate": no shrinking).
    """
    training = module.training
    module.eval()
    stuck: dict[int, str] = {}
    try:
        while True:
            tracer = run(module, example, stuck)
            index = tracer.index()
            if not verify:
                return index, Support("full", unread(module, index))
            stop = certificate.trial(module, example, index, lambda cut: run(cut, example, {}))
            if stop is None:
                return index, Support("full", unread(module, index))
            if stop.step is None or stop.step in stuck or len(stuck) >= ROUNDS:
                return index, Support("gate", stop.reason)
            stuck[stop.step] = stop.reason
    except SurgeryError as error:
        return None, Support("inspect", error.what)
    finally:
        module.train(training)


def unread(module: nn.Module, index: NeuronIndex) -> str:
    """Name weights that the example never touched: they are left whole."""
    known = {name for name in index.axes if index.axes[name]}
    names = [n for n, p in module.named_parameters() if n not in known and p.dim() > 1 and n.endswith("weight")]
    return f"never read on the example, left whole: {', '.join(names[:6])}" if names else ""


def run(module: nn.Module, example: Tensor, stuck: Mapping[int, str]) -> Tracer:
    """Run the module once under a tracer; `stuck` are the steps whose inputs are to be fixed.

    Raises:
        TraceError: naming the step that stopped it.
    """
    tracer = Tracer(module, example, stuck)
    try:
        with torch.no_grad(), tracer:
            out = module(example)
    except FAILURES as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise certificate.StepError(
            f"the network's own code fails after {tracer.last}: {reason}", tracer.step - 1
        ) from error
    tracer.finish(out)
    return tracer


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a nested result."""
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in values for tensor in tensors(item)]


@dataclass
class Read:
    """What the trace knows of one weight."""

    rows: Tensor
    cols: Tensor
    axes: tuple[Tensor | None, ...]
    kind: str


@dataclass(eq=False)
class Tracer(TorchFunctionMode):
    """The mode: it holds every tensor of the run alive (ids of Python objects are reused) with its id tensor."""

    module: nn.Module
    example: Tensor
    stuck: Mapping[int, str]
    numbering: Numbering = field(default_factory=Numbering)
    reads: dict[str, Read] = field(default_factory=dict)
    axes: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    followed: dict[str, Tensor] = field(default_factory=dict)  # bare parameter -> its slots
    seen: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    step: int = 0
    last: str = ""
    held: int = 0  # bytes of activations and ids that are kept alive

    def __post_init__(self) -> None:
        super().__init__()
        self.started = time.monotonic()
        named = [*self.module.named_parameters(), *self.module.named_buffers()]
        self.names = {id(tensor): name for name, tensor in named}
        self.shapes = {name: tensor.shape for name, tensor in named}
        self.mark(self.example, torch.tensor(-1))
        for owner in self.module.modules():  # plain tensor attributes are constants
            for value in tensors([v for v in vars(owner).values() if isinstance(v, Tensor)]):
                self.mark(value, torch.tensor(-1))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = vocabulary.plain_name(func)
        step, self.step, self.last = self.step, self.step + 1, f"{name} (step {self.step})"
        try:
            out = func(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError) as error:
            raise certificate.StepError(f"{self.last} fails: {str(error).splitlines()[0][:160]}", step) from error
        rule = vocabulary.rule_for(func)
        if rule is rules.nothing or not self.touches(args, kwargs, out):
            for tensor in tensors(out):
                self.mark(tensor, torch.tensor(-1))
            return out
        if step in self.stuck:
            self.fix_inputs(args, kwargs, self.stuck[step])
        self.bound()
        call = Call(name, func, args, kwargs, args[0] if name == "setitem" else out)
        ids = rule(self, call)
        self.record(out, ids)
        return out

    def bound(self) -> None:
        """Give up when a run takes too long or too much.

        Raises:
            TraceError: naming the step.
        """
        spent = time.monotonic() - self.started
        if spent > SECONDS:
            raise TraceError(
                f"Numbering took more than {SECONDS:.0f} s and was stopped at {self.last}.",
                "Use a smaller input size, or a smaller version of this network.",
            )
        if self.held > BYTES:
            raise TraceError(
                f"Numbering needs more than {BYTES / 2**30:.0f} GiB and was stopped at {self.last}.",
                "Use a smaller input size, or a smaller version of this network.",
            )

    def touches(self, args: Any, kwargs: Any, out: Any) -> bool:
        """Integer tensors carry no ids; calls without any float tensor do nothing to them."""
        values = tensors([*args, *kwargs.values()]) + tensors(out)
        return any(value.is_floating_point() for value in values)

    def fix_inputs(self, args: Any, kwargs: Any, reason: str) -> None:
        """Fix everything that enters a call."""
        for tensor in tensors([*args, *kwargs.values()]):
            if id(tensor) not in self.names:
                self.numbering.fix(self.ids(tensor), reason)

    def record(self, out: Any, ids: Any) -> None:
        """Keep the ids of what came out of a call; −1 where a rule gave none."""
        if isinstance(out, Tensor):
            if out.is_floating_point():
                self.mark(out, ids if isinstance(ids, Tensor) else torch.tensor(-1))
        elif isinstance(out, (tuple, list)):
            found = ids if isinstance(ids, (tuple, list)) else [None] * len(out)
            for tensor, its in zip(out, found, strict=True):
                self.record(tensor, its)

    def mark(self, x: Tensor, ids: Tensor) -> None:
        """Hold a tensor alive beside its ids."""
        self.held += x.numel() * x.element_size() + ids.untyped_storage().nbytes()
        self.seen[id(x)] = (x, ids.expand(x.shape))

    # What rules may ask (rules.Ledger).

    def ids(self, x: Any) -> Tensor:
        """Ids of a tensor, of its own shape. Raises TraceError for a tensor that no traced operation made."""
        if not isinstance(x, Tensor):
            return torch.tensor(-1)
        if id(x) in self.seen:
            return self.seen[id(x)][1]
        if (name := self.named(x)) is not None:
            return self.slots(name, x)
        if x.numel() > 1 and x.is_floating_point():
            raise TraceError(f"{self.last} uses a tensor of shape {list(x.shape)} that no traced operation made.")
        return torch.tensor(-1).expand(x.shape)

    def named(self, x: Any) -> str | None:
        """The name of a parameter or buffer."""
        return self.names.get(id(x))

    def slots(self, name: str, x: Tensor) -> Tensor:
        """Rule 9: a virtual id per element of a bare parameter or buffer."""
        if name not in self.followed:
            if not x.is_floating_point() or x.numel() > SLOTS or x.dim() == 0:
                return torch.tensor(-1).expand(x.shape)
            self.followed[name] = self.numbering.new(x.numel(), slot=True).reshape(x.shape)
        return self.followed[name]

    def columns(self, weight: str, ids: Tensor, groups: int, transposed: bool) -> Tensor:
        """Register a read of `weight` by input channels `ids: int64[in]`; return its rows."""
        shape = self.shapes[weight]
        known = self.reads.get(weight)
        if known is None:
            size = shape[1] * groups if transposed else shape[0]
            known = Read(self.numbering.new(size), ids, (), "conv" if len(shape) > 2 else "linear")
            self.reads[weight] = known
        else:
            self.numbering.unite(known.cols, ids)
            self.numbering.fix(known.cols[ids < 0], f"{weight} also reads the model input")
        if groups > 1:  # rule 4: a group lives and dies as one, with what it reads
            for cols, rows in zip(ids.chunk(groups), known.rows.chunk(groups), strict=True):
                self.numbering.unite_all(torch.cat([cols, rows]))
                if bool((cols < 0).any()):
                    self.numbering.fix(rows, f"{weight} reads the model input in groups")
        first, second = (known.cols, known.rows) if transposed else (known.rows, known.cols)
        known.axes = (first, None if groups > 1 else second, *[None] * (len(shape) - 2))
        return known.rows

    def slice_by(self, name: str, axis: int, ids: Tensor) -> None:
        """Axis `axis` of parameter or buffer `name` belongs to `ids`."""
        axes = self.axes.setdefault(name, {})
        if axis in axes:
            self.numbering.unite(axes[axis], ids)
        axes[axis] = ids

    # From the run to an index.

    def finish(self, out: Any) -> None:
        """The run has ended with `out`: outputs stay, and so does what is used in two ways."""
        for tensor in tensors(out):
            self.numbering.fix(self.ids(tensor), "model output")
        for name in self.followed.keys() & self.reads.keys():
            read = self.reads[name]
            ids = torch.cat([read.rows, read.cols, self.followed[name].flatten()])
            self.numbering.fix(ids, f"{name} is used both as a weight and bare")

    def index(self) -> NeuronIndex:
        """Solve the numbering; drop the slots; number the neurons 0 … N−1 in order of execution."""
        numbering = self.numbering
        roots = numbering.solve()
        neuron = torch.ones(numbering.count, dtype=torch.bool)
        for start, stop in numbering.slots:
            neuron[start:stop] = False
        new = torch.cumsum(neuron, 0) - 1  # old id -> neuron number
        member = torch.full((int(roots.max()) + 1 if len(roots) else 0,), -1, dtype=torch.long)
        order = neuron.nonzero().flatten().flip(0)
        member[roots[order]] = new[order]  # smallest neuron of each root; −1: slots only
        why = self.reasons(roots, member)

        def neurons(ids: Tensor) -> Tensor:
            """Neuron number of each id; a slot becomes its group's first neuron, or −1."""
            own = torch.where(neuron[ids.clamp(min=0)], new[ids.clamp(min=0)], member[roots[ids.clamp(min=0)]])
            return torch.where(ids >= 0, own, -1)

        group = member[roots[neuron]]
        layers = {}
        for weight, read in self.reads.items():
            name = readers.layer_name(weight)
            layers[name] = Layer(name, neurons(read.rows), neurons(read.cols), read.kind, self.holds_bias(name))
        axes = {w: tuple(None if a is None else neurons(a) for a in read.axes) for w, read in self.reads.items()}
        for name, known in self.axes.items():
            axes[name] = tuple(neurons(known[a]) if a in known else None for a in range(len(self.shapes[name])))
        for name, ids in self.followed.items():
            axes[name] = bare_axes(rooted(roots, ids), member, why)
        why = single_groups(layers, group) | why
        return NeuronIndex(layers, axes, group, fixed_by(group, why), why)

    def holds_bias(self, name: str) -> bool:
        """Whether a layer is a module that has, or can be given, a bias."""
        return isinstance(dict(self.module.named_modules()).get(name), (nn.Linear, nn.modules.conv._ConvNd))

    def reasons(self, roots: Tensor, member: Tensor) -> dict[int, str]:
        """Group number -> the first reason that fixed it; being an output comes before all others."""
        why: dict[int, str] = {}
        for ids, reason in sorted(self.numbering.fixes, key=lambda fix: fix[1] != "model output"):
            for number in member[roots[ids].unique()].tolist():
                if number >= 0:
                    why.setdefault(number, reason)
        return why


def bare_axes(ids: Tensor, member: Tensor, why: dict[int, str]) -> tuple[Tensor | None, ...]:
    """Rule 9: the one axis of a bare parameter along which neurons vary is sliced; more than one fixes them."""
    found = torch.where(ids >= 0, member[ids.clamp(min=0)], -1)
    vary = varying(found)
    if len(vary) > 1 or (not vary and bool((found >= 0).any())):
        for number in found[found >= 0].unique().tolist():
            why.setdefault(number, "a bare parameter has no single axis of neurons")
        return tuple(None for _ in range(found.dim()))
    if not vary:
        return tuple(None for _ in range(found.dim()))
    axis = vary[0]
    line = found.movedim(axis, -1).reshape(-1, found.shape[axis])[0]
    return tuple(line if a == axis else None for a in range(found.dim()))
