"""Number the neurons of any network by running it once, with ids beside the activations.

The model's own forward runs on an example under a function mode; `rules` say what each call does to the ids. Nothing
is symbolic, so functional code, reused layers and loops just work; decisions by values are followed both ways. The
numbering is then proven: the network is cut, traced again (every reader must read the old kept columns) and many cuts
are compared with the gated network. A step or layer that fails is fixed, and the proof starts again; what cannot be cut
can still be gated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.errors import SurgeryError, TraceError
from surgery.network import certificate, passes, readers, rules, slicing, steps, vocabulary
from surgery.network.certificate import Place
from surgery.network.index import Layer, NeuronIndex, fixed_by, single_groups
from surgery.network.model import Support
from surgery.network.numbering import Numbering, rooted, varying
from surgery.network.passes import FAILURES, Pass
from surgery.network.rules import Call, tensors

_log = logging.getLogger(__name__)
ROUNDS = 40  # of fixing the step at which a cut network stops
SLOTS = 2_000_000  # elements of bare parameters that are followed one by one
OUTPUT = "model output"
NONE = torch.tensor(-1)  # the ids of a tensor without neurons

SECONDS = 600.0  # that one run may take: a minute on two cores is common for large transformers
BYTES = 12 * 2**30  # of activations and ids that one run may hold


def trace(module: nn.Module, example: Tensor, *, verify: bool = True) -> tuple[NeuronIndex | None, Support]:
    """Number `module` on `example: float[batch, ...]`; say how much of the product works on it.

    `verify=False` skips the trial cut. The module is left as it was. Never raises for a network it cannot number:
    the support level and its reason say so ("inspect": no index; "gate": no shrinking).
    """
    training = module.training
    module.eval()
    stuck: dict[Place, str] = {}
    try:
        ways, depends = passes.passes(module, example)
        while True:
            tracer = run(module, ways, stuck, depends=depends)
            index = tracer.index()
            if not verify:
                return index, Support("full", unread(module, index))
            if not stuck and (step := steps.random(module, example)) is not None:
                return index, Support("gate", f"random in eval mode: {step} gives other values on each run")
            stop = certificate.trial(module, ways, index, lambda cut: run(cut, ways, {}))
            if stop is None:
                return index, Support("full", unread(module, index))
            if not any(isinstance(place, int) for place in stop.places):
                stop = located(stop, tracer, index, ways[0], stuck)
            if not stop.places or stop.places <= stuck.keys() or len(stuck) >= ROUNDS:
                return index, Support("gate", stop.reason)
            stuck |= dict.fromkeys(stop.places, stop.reason)
    except SurgeryError as error:
        return None, Support("inspect", error.what)
    finally:
        module.train(training)


def located(
    stop: certificate.Stop, tracer: Tracer, index: NeuronIndex, way: Pass, stuck: Mapping[Place, str]
) -> certificate.Stop:
    """The same at the first step where a cut network gives something else, if there is one that is not yet fixed.

    Results that depend on how many neurons there are (`x / sqrt(x.shape[1])`) are found like this.
    """
    keep = certificate.sample(index, 0.3)
    try:
        small = slicing.cut(tracer.module, index, keep)
        gate = certificate.gate(tracer.module, index, keep)
        step = steps.diverging(tracer.module, small, way.x, tracer.masks(keep), gate)
    except FAILURES:
        return stop
    if step is None or step.number in stuck:
        return stop
    return certificate.Stop(f"{step} gives other values after a cut", frozenset([step.number]))


def unread(module: nn.Module, index: NeuronIndex) -> str:
    """Name weights that the example never touched: they are left whole."""
    known = {name for name in index.axes if index.axes[name]}
    names = [n for n, p in module.named_parameters() if n not in known and p.dim() > 1 and n.endswith("weight")]
    return f"never read on the example, left whole: {', '.join(names[:6])}" if names else ""


def run(module: nn.Module, ways: Sequence[Pass], stuck: Mapping[Place, str], *, depends: bool = False) -> Tracer:
    """Run the module under one tracer on all `ways`; what stands at the places `stuck` is fixed.

    depends: the code decides by values, so that modules that no run reached may read what fits them.

    Raises:
        TraceError: naming the step that stopped it.
    """
    tracer = Tracer(module, stuck)
    for one in ways:
        tracer.mark(x := one.x.clone(), NONE)
        try:
            with torch.no_grad(), tracer, passes.Decisions(one.answers):  # counts the module's decisions, not ours
                out = module(x)
        except FAILURES as error:
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise certificate.StepError(
                f"the network's own code fails after {tracer.last}: {reason}", tracer.step - 1
            ) from error
        tracer.leave(out)
    tracer.finish()
    if depends:
        tracer.fix_feeders()
    return tracer


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
    stuck: Mapping[Place, str]
    numbering: Numbering = field(default_factory=Numbering)
    reads: dict[str, Read] = field(default_factory=dict)
    axes: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    followed: dict[str, Tensor] = field(default_factory=dict)  # bare parameter -> its slots
    whole: set[str] = field(default_factory=set)  # bare parameters that are too large for slots
    outputs: dict[int, list[Tensor]] = field(default_factory=dict)  # step -> the results that carry ids
    derived: dict[int, str] = field(default_factory=dict)  # id of a tensor -> the parameter it is computed from
    seen: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    carrying: set[int] = field(default_factory=set)  # of `seen`: those with an id
    bases: set[int] = field(default_factory=set)  # of `seen`: those of which there is a view
    touched: set[str] = field(default_factory=set)  # parameters and buffers whose values were used
    step: int = 0
    last: str = ""
    held: int = 0  # bytes of activations and ids that are kept alive

    def __post_init__(self) -> None:
        super().__init__()
        self.started = time.monotonic()
        named = [*self.module.named_parameters(), *self.module.named_buffers()]
        self.names = {id(tensor): name for name, tensor in named}
        self.shapes = {name: tensor.shape for name, tensor in named}
        for owner in self.module.modules():  # plain tensor attributes are constants
            for value in tensors([v for v in vars(owner).values() if isinstance(v, Tensor)]):
                self.mark(value, NONE)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = vocabulary.plain_name(func)
        step, self.step, self.last = self.step, self.step + 1, f"{name} (step {self.step})"
        try:
            out = func(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError) as error:
            raise certificate.StepError(f"{self.last} fails: {str(error).splitlines()[0][:160]}", step) from error
        rule, given = vocabulary.rule_for(func), tensors([args, kwargs])
        if rule is rules.nothing or empty(given, out) or not self.carry(given):
            for tensor in tensors(out):
                self.mark(tensor, NONE)
            return out
        if not tensors(out) and rule is not rules.overwrite:
            rule = rules.decide
        if step in self.stuck:
            self.fix_inputs(given, self.stuck[step])
        self.bound()
        before = self.seen[id(out)][1] if id(out) in self.seen else None
        call = Call(name, func, args, kwargs, args[0] if name == "setitem" else out)
        try:
            self.record(out, rule(self, call))
        except SurgeryError:
            raise
        except FAILURES:  # of ours: the network itself ran this call
            _log.exception("The rule %r failed at %s; its inputs are fixed.", rule.__name__, self.last)
            rules.unknown(self, call)
            self.record(out, None)
        self.written(out, before)
        self.derive(call)
        self.outputs[step] = tensors(out)
        return out

    def derive(self, call: Call) -> None:
        """Remember from which layer's parameters a tensor is computed."""
        first = next(iter(tensors(call.args)), None)
        name = None if first is None else self.named(first) or self.derived.get(id(first))
        if name is not None:
            for tensor in tensors(call.out):
                self.derived.setdefault(id(tensor), name)

    def written(self, out: Any, before: Tensor | None) -> None:
        """Writing into a tensor changes its views, whose ids stay: what comes in where they carry none is lost."""
        if before is None or not (id(out) in self.bases or (out._base is not None and id(out._base) in self.seen)):
            return
        ids = self.ids(out)
        if before.shape == ids.shape:
            self.numbering.lose(ids[(before < 0) & (ids >= 0)], "values are written in through a view")

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

    def carry(self, given: Sequence[Tensor]) -> bool:
        """Whether any of the tensors carries ids, or is a parameter or buffer.

        Raises:
            TraceError: for a tensor that no traced operation made.
        """
        names = [name for tensor in given if (name := self.named(tensor)) is not None]
        self.touched.update(names)
        for tensor in given:
            if id(tensor) not in self.names:
                self.ids(tensor)
        return bool(names) or any(id(tensor) in self.carrying for tensor in given)

    def fix_inputs(self, given: Sequence[Tensor], reason: str) -> None:
        """Fix everything that enters a call."""
        for tensor in given:
            if id(tensor) not in self.names:
                self.numbering.fix(self.ids(tensor), reason)

    def record(self, out: Any, ids: Any) -> None:
        """Keep the ids of what came out of a call; −1 where a rule gave none."""
        if isinstance(out, Tensor):
            self.mark(out, ids if isinstance(ids, Tensor) else NONE)
        elif isinstance(out, (tuple, list)):
            found = ids if isinstance(ids, (tuple, list)) else [None] * len(out)
            for tensor, its in zip(out, found, strict=True):
                self.record(tensor, its)

    def mark(self, x: Tensor, ids: Tensor) -> None:
        """Hold a tensor alive beside its ids."""
        self.held += x.numel() * x.element_size() + ids.untyped_storage().nbytes()
        self.seen[id(x)] = (x, ids.expand(x.shape))
        (self.carrying.discard if ids is NONE else self.carrying.add)(id(x))
        if x._base is not None:
            self.bases.add(id(x._base))

    # What rules may ask (rules.Ledger).

    def ids(self, x: Any) -> Tensor:
        """Ids of a tensor, of its own shape. Raises TraceError for a tensor that no traced operation made."""
        if not isinstance(x, Tensor):
            return NONE
        if id(x) in self.seen:
            return self.seen[id(x)][1]
        if (name := self.named(x)) is not None:
            return self.slots(name, x)
        if x.numel() > 1 and x.is_floating_point():
            raise TraceError(f"{self.last} uses a tensor of shape {list(x.shape)} that no traced operation made.")
        return NONE.expand(x.shape)

    def named(self, x: Any) -> str | None:
        """The name of a parameter or buffer."""
        return self.names.get(id(x))

    def layer_of(self, weight: Tensor) -> str | None:
        """The layer whose parameters a weight is computed from; None when that is not known."""
        owner, parametrized, _ = self.derived.get(id(weight), "").partition(".parametrizations.")
        return (owner if parametrized else owner.rpartition(".")[0] or owner) or None

    def slots(self, name: str, x: Tensor) -> Tensor:
        """Rule 9: a virtual id per element of a bare parameter or buffer."""
        if name not in self.followed:
            if x.numel() > SLOTS:
                self.whole.add(name)
            if not x.is_floating_point() or x.numel() > SLOTS or x.numel() < 2:  # a single value serves all neurons
                return NONE.expand(x.shape)
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

    def leave(self, out: Any) -> None:
        """A run has ended with `out`: outputs stay."""
        for tensor in tensors(out):
            self.numbering.fix(self.ids(tensor), OUTPUT)

    def finish(self) -> None:
        """All runs have ended: what is used in two ways stays, and so does what a proof found at fault."""
        for name in (self.followed.keys() | self.whole) & self.reads.keys():
            read, slots = self.reads[name], self.followed.get(name, torch.empty(0, dtype=torch.long))
            ids = torch.cat([read.rows, read.cols, slots.flatten()])
            self.numbering.fix(ids, f"{name} is used both as a weight and bare")
        for name in self.followed.keys() & self.axes.keys():
            for axis, ids in self.axes[name].items():
                self.numbering.unite(self.followed[name], rules.along_axis(ids, axis, self.shapes[name]))
        for weight, read in self.reads.items():
            name = readers.layer_name(weight)
            for side, ids, fix in (
                ("rows", read.rows, self.numbering.fix),
                ("leaks", read.rows, self.numbering.lose),
                ("cols", read.cols, self.numbering.fix),
            ):
                if (name, side) in self.stuck:
                    fix(ids, self.stuck[name, side])

    def fix_feeders(self) -> None:
        """Modules that no run reached may read, on other data, whatever has their width."""
        idle = {n: p for n, p in self.module.named_parameters() if n not in self.touched}
        for name, parameter in idle.items():
            owner = self.module.get_submodule(name.rpartition(".")[0])
            groups = getattr(owner, "groups", 1)
            widths = {*parameter.shape[:2], *(size * groups for size in parameter.shape[1:2])}
            for x, ids in list(self.seen.values()):
                if id(x) in self.carrying and any(x.shape[axis] in widths for axis in varying(ids)):
                    self.numbering.fix(ids, f"{name} was not reached on any example and may read them")

    def index(self) -> NeuronIndex:
        """Solve the numbering; drop the slots; number the neurons 0 … N−1 in order of execution."""
        numbering = self.numbering
        self.roots = roots = numbering.solve()
        neuron = torch.ones(numbering.count, dtype=torch.bool)
        for start, stop in numbering.slots:
            neuron[start:stop] = False
        new = torch.cumsum(neuron, 0) - 1  # old id -> neuron number
        member = torch.full((int(roots.max()) + 1 if len(roots) else 0,), -1, dtype=torch.long)
        order = neuron.nonzero().flatten().flip(0)
        self.member = member
        member[roots[order]] = new[order]  # smallest neuron of each root; −1: slots only
        why = self.reasons(self.numbering.fixes, roots, member)

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
        lost = self.reasons(self.numbering.lost, roots, member)
        lost = {group: reason for group, reason in lost.items() if why.get(group) != OUTPUT}
        return NeuronIndex(layers, axes, group, fixed_by(group, why), why, lost)

    def masks(self, keep: Tensor) -> Callable[[int, int], Tensor | None]:
        """Which elements of a step's results are left by `keep: bool[N]`: (step, place) -> bool of the result's shape.

        None for what carries no ids. After `index`.
        """
        left = torch.where(self.member >= 0, keep[self.member.clamp(min=0)], True)  # by root

        def mask(step: int, place: int) -> Tensor | None:
            results = self.outputs.get(step, [])
            if place >= len(results) or id(results[place]) not in self.seen:
                return None
            ids = self.seen[id(results[place])][1]
            return (ids < 0) | left[self.roots[ids.clamp(min=0)]]

        return mask

    def holds_bias(self, name: str) -> bool:
        """Whether a layer is a module that has, or can be given, a bias."""
        return isinstance(dict(self.module.named_modules()).get(name), (nn.Linear, nn.modules.conv._ConvNd))

    def reasons(self, fixes: Sequence[tuple[Tensor, str]], roots: Tensor, member: Tensor) -> dict[int, str]:
        """Group number -> the first reason that fixed it; being an output comes before all others."""
        why: dict[int, str] = {}
        for ids, reason in sorted(fixes, key=lambda fix: fix[1] != OUTPUT):
            for number in member[roots[ids].unique()].tolist():
                if number >= 0:
                    why.setdefault(number, reason)
        return why


def empty(given: Sequence[Tensor], out: Any) -> bool:
    """Whether a call works on no values: nothing of it can be learned, not even which weights it reads."""
    made = tensors(out)
    return (bool(made) and all(t.numel() == 0 for t in made)) or (bool(given) and all(t.numel() == 0 for t in given))


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
