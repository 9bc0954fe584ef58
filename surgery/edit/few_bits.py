"""Train a network whose weights have few bits: bits and exponents learned beside the weights, or held.

After Self-Compressing Networks (arXiv 2301.13142): loss = task + γ · Q with Q the average bits per weight, two settings
of Adam (bits and exponents; weights). Ours: Q counts bits as they will be stored (rounded up, the gradient straight
through); with a target the penalty ends where the size reaches it that is left without the neurons of no bits,
γ · max(0, left − target) with the gradient of Q; rows do not start level but spread over one bit; and the answers of
the original may be distilled.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from surgery.context import Context
from surgery.edit.quantize import (
    Weight,
    covering,
    on_grid,
    quantize,
    settled,
    size_left,
    size_of_pairs,
    size_of_rows,
    weights_of,
)
from surgery.edit.tune import NORMS
from surgery.errors import DataError, SurgeryError
from surgery.network.model import Model
from surgery.network.outputs import pick
from surgery.network.packed import MOST, Packing

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

Form = Literal["rows", "pairs"]
REACH = 2.0  # learning rate of ranges, in that of the weights
BEHIND, PRESS, HARDEST = 0.1, 1.5, 100.0  # bits behind the line at which γ grows, by which factor, up to where
SOFT = 2.0  # temperature of what is distilled


@dataclass(frozen=True)
class Course:
    """How to train. epochs and rate of the weights; rate_bits: of bits (0: they stay). gamma: the weight of the size.

    target: average bits per weight at which the penalty ends, None = never; it is approached linearly over the first
    `approach` (0–1) of the steps. form: of Q. distil: weight of the original's answers in the loss.
    """

    epochs: float
    rate: float = 1e-3
    rate_bits: float = 0.0
    gamma: float = 0.0
    target: float | None = None
    approach: float = 0.6
    form: Form = "rows"
    distil: float = 0.0
    batch: int = 64


@dataclass
class FewBits:
    """A network in training. module: with whole weights. bits, ranges: name -> float[out]; a row reaches from −2^range
    to just below 2^range, so that fewer bits make its steps coarser, not its reach smaller: e = range − b + 1 (ours).
    """

    model: Model
    module: nn.Module
    weights: list[Weight]
    bits: dict[str, Tensor]
    ranges: dict[str, Tensor]
    gamma: float = 0.0
    device: str = "cpu"
    original: nn.Module | None = None
    each: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, bits: float, device: str = "cpu") -> FewBits:
        """At a uniform number of bits, or at those that the model is held in already."""
        module = copy.deepcopy(model.module).to(device)
        weights = weights_of(model)
        parameters = dict(module.named_parameters())
        found = cls(model, module, weights, {}, {}, device=device)
        for weight in weights:
            rows = parameters[weight.name].detach().movedim(weight.axis, 0)
            held = model.held.get(weight.name)
            b = held.bits.float().to(device) if held else torch.full((len(rows),), float(bits), device=device)
            found.bits[weight.name] = b
            exponent = held.exponent.to(device) if held else covering(rows, b)
            found.ranges[weight.name] = exponent + b - 1
        found.each = {weight.name: parameters[weight.name].numel() // len(weight.rows) for weight in weights}
        return found

    def simulated(self) -> dict[str, Tensor]:
        """name -> the weight as its bits and exponents hold it, with gradients to all three."""
        parameters = dict(self.module.named_parameters())
        found = {}
        for weight in self.weights:
            rows = parameters[weight.name].movedim(weight.axis, 0)
            bits = _ceil(self.bits[weight.name].clamp(min=0))  # as they will be stored
            seen = quantize(rows, bits, self.exponent(weight.name, bits))
            found[weight.name] = seen.movedim(0, weight.axis)
        return found

    def exponent(self, name: str, bits: Tensor) -> Tensor:
        """float[out]: the exponents of a weight at so many bits."""
        return self.ranges[name] - bits + 1

    @torch.no_grad()
    def stagger(self) -> None:
        """Spread the rows of every weight evenly over one bit: what is stored stays, but they lose it one by one.

        First those whose values change least for it (squared, relative to the row's). Rows that start level would all
        lose a bit in the same step, too many of them before the penalty notices (ours).
        """
        parameters = dict(self.module.named_parameters())
        for weight in self.weights:
            rows = parameters[weight.name].movedim(weight.axis, 0).flatten(1)
            bits = self.bits[weight.name].ceil()
            fewer = (bits - 1).clamp(min=0)
            change = (quantize(rows, fewer, self.exponent(weight.name, fewer)) - rows).square().sum(1)
            order = (change / rows.square().sum(1).clamp(min=torch.finfo(rows.dtype).tiny)).argsort(descending=True)
            offset = torch.empty_like(bits)
            offset[order] = torch.arange(len(bits), device=bits.device, dtype=bits.dtype) / len(bits)
            self.bits[weight.name] = torch.where(bits > 0, bits - offset, bits)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of the simulated network, of a text at every position."""
        out = functional_call(self.module, self.simulated(), (x,))
        return pick(out, self.model.output)

    @torch.no_grad()
    def clamp(self) -> None:
        """No row has fewer than no bits."""
        for b in self.bits.values():
            b.clamp_(min=0)

    def size(self, form: Form) -> Tensor:
        """Q, bits counted as they will be stored."""
        stored = {name: _ceil(b.clamp(min=0)) for name, b in self.bits.items()}
        if form == "rows":
            return size_of_rows({name: (self.each[name], b) for name, b in stored.items()})
        assert self.model.index is not None
        return size_of_pairs(self.model.index, self.weights, stored)

    def left(self) -> float:
        """Average bits per weight of the start, once the neurons without bits have gone."""
        assert self.model.index is not None
        return size_left(self.model.index, self.weights, {name: b.detach().ceil() for name, b in self.bits.items()})

    def settle(self) -> Model:
        """The model with every weight on the grid of whole bits."""
        held = self.held()
        module = copy.deepcopy(self.module).cpu().eval()
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            for name, packing in held.items():
                parameters[name].copy_(on_grid(parameters[name], packing))
        return replace(self.model, module=module, held=held)

    def whole(self) -> Model:
        """The model with its weights as they are trained, and how they are held: to be cut and trained on."""
        return replace(self.model, module=copy.deepcopy(self.module).cpu().eval(), held=self.held())

    def held(self) -> dict[str, Packing]:
        """How every weight would be stored now."""
        found = {}
        for weight in self.weights:
            bits = self.bits[weight.name].detach().clamp(min=0, max=MOST).ceil()
            found[weight.name] = settled(bits.cpu(), self.exponent(weight.name, bits).detach().cpu(), weight.axis)
        return found

    def state(self) -> dict[str, Any]:
        """All that training changes, copied."""
        return {
            "module": {name: tensor.clone() for name, tensor in self.module.state_dict().items()},
            "bits": {name: b.detach().clone() for name, b in self.bits.items()},
            "ranges": {name: reach.detach().clone() for name, reach in self.ranges.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put a copied state back, in place."""
        self.module.load_state_dict(state["module"])
        with torch.no_grad():
            for kind in ("bits", "ranges"):
                for name, tensor in getattr(self, kind).items():
                    tensor.copy_(state[kind][name])


@dataclass
class Watch:
    """Looks every `every` steps at what must not sink; after `patience` bad looks in a row back to the last safe state.

    The first steps disturb more than they will have in the end, hence patience.
    look: of a settled model -> quality, 0–1. least: what it may not fall below. told: after each look, of the step, the
    quality, whether it went back, and the network. stop_at: number of the safe look at which training ends.
    """

    look: Callable[[Model], float]
    least: float
    every: int
    told: Callable[[int, float, bool, FewBits], None] = lambda step, quality, back, training: None
    patience: int = 1
    stop_at: int | None = None
    strikes: int = 0
    safe: dict[str, Any] = field(default_factory=dict)
    returns: int = 0
    passed: int = 0

    @property
    def ended(self) -> bool:
        """Whether the look has come at which training ends."""
        return self.stop_at is not None and self.passed >= self.stop_at

    def begin(self, training: FewBits, optimizer: torch.optim.Optimizer) -> None:
        """The state to go back to before the first step, whatever its quality."""
        self.safe = {"training": training.state(), "optimizer": copy.deepcopy(optimizer.state_dict())}

    def check(self, step: int, training: FewBits, optimizer: torch.optim.Optimizer) -> None:
        """Keep the state, or put the last safe one back and halve γ."""
        now = self.look(training.settle())
        low = now < self.least - 1e-9
        self.strikes = self.strikes + 1 if low else 0
        back = self.strikes >= self.patience
        if back:
            training.restore(self.safe["training"])
            optimizer.load_state_dict(self.safe["optimizer"])
            training.gamma /= 2
            self.returns, self.strikes = self.returns + 1, 0
        elif not low:
            self.begin(training, optimizer)
            self.passed += 1
        self.told(step, now, back, training)


def learn(training: FewBits, data: Dataset, ctx: Context, course: Course, watch: Watch | None = None) -> None:
    """Train in place on the role train. Same seed, same weights.

    Raises:
        DataError: there is nothing labelled to train on. SurgeryError: the loss became NaN; the last safe state of the
        watch has been put back.
    """
    ids = data.ids("train")
    if data.task == "unlabelled" or not len(ids):
        raise DataError("Learning few bits needs labelled training data.", "Import the dataset with its labels.")
    per_epoch = len(data.batches(ids, training.model.input, size=course.batch))
    steps = max(1, round(course.epochs * per_epoch))
    if course.rate_bits:
        training.stagger()
    optimizer, schedule = _optimizer(training, course, steps)
    training.gamma = course.gamma
    losses = _Losses(training, course, data)
    if watch is not None:
        watch.begin(training, optimizer)
    done = 0
    with torch.random.fork_rng(devices=[]), _training(training):
        torch.manual_seed(ctx.seed)
        for epoch in range(-(-steps // per_epoch)):
            seed, words = ctx.seed + epoch, f"learning bits, epoch {epoch + 1} of {-(-steps // per_epoch)}"
            batches = data.batches(ids, training.model.input, size=course.batch, device=ctx.device, seed=seed)
            for x, y, _ in ctx.track(batches, words):
                if done == steps or (watch is not None and watch.ended):
                    break
                if len(x) == 1 and len(ids) > 1:
                    continue
                if y is None:
                    raise DataError("Training met a batch without labels.", "Import the dataset again.")
                loss, above = losses(x, y, done / steps)
                value = loss + training.gamma * above
                if not torch.isfinite(value):
                    if watch is not None:
                        training.restore(watch.safe["training"])
                    raise SurgeryError(
                        "The loss became NaN while bits were learned; the last safe state was kept.",
                        "Lower the learning rates or γ and run again.",
                    )
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
                training.clamp()
                done += 1
                ctx.point(loss=float(loss.detach()))
                if watch is not None and (done % watch.every == 0 or done == steps):
                    watch.check(done, training, optimizer)
                    if course.target is not None and float(above.detach()) > BEHIND and not watch.strikes:
                        training.gamma = min(HARDEST, PRESS * training.gamma)  # the size lags behind its line


class _Losses:
    """What training lowers: the error on the task and to the original, and apart from it the size to be lost."""

    def __init__(self, training: FewBits, course: Course, data: Dataset) -> None:
        self.training, self.course = training, course
        self.start = training.left() if course.target is not None else 0.0
        self.place, self.spread = None, 1.0
        if training.model.task == "classification":
            self.place = training.model.outputs_of(data.classes)
        else:
            labels = torch.as_tensor(data.labels(data.ids("train")))
            self.spread = max(float(labels.double().var()), 1e-12)

    def __call__(self, x: Tensor, y: Tensor, way: float) -> tuple[Tensor, Tensor]:
        """Loss, and Q or, with a target, by how much the size lies above its line. way: share (0–1) of the steps."""
        training, course = self.training, self.course
        out = training(x)
        loss = self._task(out, x, y) + course.distil * self._distilled(out, x)
        size = training.size(course.form)
        if course.target is None:
            return loss, size
        line = course.target + (self.start - course.target) * max(0.0, 1 - way / max(course.approach, 1e-9))
        return loss, F.relu(size - size.detach() + training.left() - line)

    def _task(self, out: Tensor, x: Tensor, y: Tensor) -> Tensor:
        if self.place is None:
            return F.mse_loss(out.squeeze(-1), y.float()) / self.spread
        said, right = self.training.model.lessons(x, self.place.to(y.device)[y], out)
        return F.cross_entropy(said, right)

    def _distilled(self, out: Tensor, x: Tensor) -> Tensor:
        """How far the answers are from the original's: Kullback–Leibler at a temperature, or squared error."""
        if self.training.original is None:
            return out.new_zeros(())
        with torch.no_grad():
            wanted = pick(self.training.original(x), self.training.model.output)
        if self.training.model.task == "regression":
            return F.mse_loss(out, wanted)
        soft, target = torch.log_softmax(out / SOFT, -1), torch.softmax(wanted / SOFT, -1)
        soft, target = soft.flatten(0, -2), target.flatten(0, -2)
        return F.kl_div(soft, target, reduction="batchmean") * SOFT**2


def _optimizer(
    training: FewBits, course: Course, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam in its settings for weights, ranges and bits; the first two fall by a cosine, bits keep their rate."""
    weights = [p for p in training.module.parameters() if p.is_floating_point()]
    ranges, bits = [*training.ranges.values()], [*training.bits.values()] if course.rate_bits else []
    for tensor in (*weights, *ranges, *bits):
        tensor.requires_grad_(True)
    groups = [{"params": weights, "lr": course.rate, "eps": 1e-5}]
    groups += [{"params": ranges, "lr": REACH * course.rate, "eps": 1e-3}]
    groups += [{"params": bits, "lr": course.rate_bits, "eps": 1e-3}] if bits else []

    def cosine(step: int) -> float:
        return (1 + math.cos(math.pi * step / steps)) / 2

    optimizer = torch.optim.Adam(groups)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, [cosine, cosine, lambda _: 1.0][: len(groups)])


def _ceil(bits: Tensor) -> Tensor:
    """Rounded up, the gradient straight through."""
    return bits + (bits.ceil() - bits).detach()


@contextmanager
def _training(training: FewBits) -> Iterator[None]:
    """Normalisation in training mode; afterwards nothing of the network's bits asks for gradients."""
    training.module.eval()
    for part in training.module.modules():
        if isinstance(part, NORMS):
            part.train()
    try:
        yield
    finally:
        training.module.eval()
        for tensor in (*training.bits.values(), *training.ranges.values()):
            tensor.requires_grad_(False)
