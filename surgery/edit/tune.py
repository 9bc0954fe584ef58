"""Train a model a little: to heal it after a cut, or to teach a part of it something new."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.context import Context
from surgery.edit.parts import Free, Held
from surgery.errors import DataError, DivergedError
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids

Loss = Callable[[Tensor, Tensor], Tensor]  # of outputs and of the output (or target) that is right
Vary = Callable[[Tensor, torch.Generator], Tensor]  # training samples -> as many like them
TAUGHT = 0.7  # the teacher's share of the loss
TEMPERATURE = 2.0  # by which the outputs of both are softened
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


class Watch(Protocol):
    """What looks at a model while it is trained: `edit.guard.Guard`, or `edit.finetune.Best`."""

    every: int  # steps between two looks
    good: dict[str, Tensor]  # the state that is the result

    def begin(self, module: nn.Module) -> None:
        """Look at the state before the first step."""

    def passes(self, module: nn.Module) -> bool:
        """Look; False when an older state was put back."""

    @property
    def spent(self) -> bool:
        """Whether training ends here."""


@dataclass(frozen=True)
class Replay:
    """Training samples of an older dataset, to make up a share (below 1) of every batch."""

    data: Dataset
    share: float


def tune(
    model: Model,
    data: Dataset,
    ctx: Context,
    *,
    epochs: float,
    rate: float,
    batch: int = 64,
    decay: float = 0.0,
    free: Free | None = None,
    guard: Watch | None = None,
    replay: Replay | None = None,
    among: Tensor | None = None,
    teacher: Model | None = None,
    vary: Vary | None = None,
) -> Model:
    """A copy of `model` trained for `epochs` on the role train, with AdamW and a cosine schedule from `rate`.

    Cross-entropy for classes (of a text, at every position), squared error in units of the target's spread for
    regression. Only normalisation and dropout run in training mode, so that branches a network opens in training mode
    (auxiliary heads) stay closed.
    epochs: a part of one takes that share of the samples, in a seeded order. decay: AdamW's weight decay. free: what
    may move, by `edit.parts`; all else stays bit for bit. guard: looks every few steps; when it goes back, the rate is
    halved, and at the end the last state that it kept is the result. replay: older samples mixed into every batch.
    among: int64[k], rising, the only outputs that the loss compares; samples of other classes are left out. teacher: a
    model whose outputs the new one learns beside the labels, as a share TAUGHT of the loss; it knows all its classes.
    vary: changes each batch of samples before both see it. Same seed, same weights.

    Raises:
        DataError: there is nothing labelled to train on.
        DivergedError: the loss became NaN.
    """
    ids = samples_among(model, data, data.ids("train"), among)
    if data.task == "unlabelled" or not len(ids):
        raise DataError("Tuning needs labelled training data; this dataset has none.", "Set the tuning epochs to 0.")
    module = copy.deepcopy(model.module).to(ctx.device)
    tuned = replace(model, module=module)
    batches = _Batches(model, data, ids, epochs, batch, ctx, replay)
    loss_of = _cross_entropy(among) if model.task == "classification" else _squared_error(data)
    lesson = _Lesson(tuned, loss_of, teacher, ctx) if teacher is not None else None
    generator = torch.Generator().manual_seed(ctx.seed)
    movable = [parameter.requires_grad for parameter in module.parameters()]
    held = Held(module, free) if free is not None else None
    moving = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(batches.steps, 1))
    if guard is not None:
        guard.begin(module)

    def step(x: Tensor, y: Tensor) -> None:
        x = x if vary is None else vary(x, generator)
        out = module(x)
        value = loss_of(*tuned.lessons(x, y, out)) if lesson is None else lesson(x, y, out)
        if not torch.isfinite(value):
            raise DivergedError("The loss became NaN while tuning.", "Lower the learning rate and run again.")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if held is not None:
            held.put_back()
        ctx.point(loss=float(value.detach()))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ctx.seed)
        _loop(batches, step, module, held, guard, optimizer)
    if guard is not None:
        module.load_state_dict(guard.good)
    for parameter, before in zip(module.parameters(), movable, strict=True):
        parameter.requires_grad_(before)
    return replace(model, module=module.eval().to("cpu"))


def _loop(
    batches: _Batches,
    step: Callable[[Tensor, Tensor], None],
    module: nn.Module,
    held: Held | None,
    guard: Watch | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Take a step for each batch; let the guard look in between, at the module in eval mode, until it is spent."""
    with ExitStack() as stack:
        stack.enter_context(_training(module, held))
        for done, (x, y) in enumerate(batches, 1):
            step(x, y)
            if guard is None or not (done % guard.every == 0 or done == batches.steps):
                continue
            stack.close()
            module.eval()
            if not guard.passes(module):
                optimizer.state.clear()
                for group in optimizer.param_groups:
                    group["lr"] /= 2  # the schedule goes on from there
            if guard.spent:
                break
            stack.enter_context(_training(module, held))


class _Lesson:
    """The loss of a model that learns from a teacher beside the labels.

    Of a classification, the teacher's part is the divergence of softened outputs, times the square of the temperature
    (Hinton et al., arXiv 1503.02531); of a regression, the squared difference in units of the target's spread.
    """

    def __init__(self, model: Model, loss_of: Loss, teacher: Model, ctx: Context) -> None:
        self.model, self.loss_of = model, loss_of
        self.module = copy.deepcopy(teacher.module).eval().to(ctx.device)
        self.teacher = replace(teacher, module=self.module)
        self.columns = torch.tensor([teacher.classes.index(name) for name in model.classes], device=ctx.device)

    def __call__(self, x: Tensor, y: Tensor, out: Any) -> Tensor:
        """The loss of what the module gave for x."""
        found, right = self.model.lessons(x, y, out)
        with torch.no_grad():
            said, _ = self.teacher.lessons(x, y, self.module(x))
        said = said[:, self.columns]
        if self.model.task == "regression":
            taught = self.loss_of(found, said.squeeze(-1))
        else:
            soft = F.log_softmax(found / TEMPERATURE, 1)
            taught = F.kl_div(soft, F.log_softmax(said / TEMPERATURE, 1), reduction="batchmean", log_target=True)
            taught = taught * TEMPERATURE**2
        return (1 - TAUGHT) * self.loss_of(found, right) + TAUGHT * taught


def samples_among(model: Model, data: Dataset, ids: Ids, among: Tensor | None) -> Ids:
    """Those of the samples whose class is one of the outputs `among: int64[k]`; all without it."""
    if among is None:
        return ids
    return ids[np.isin(model.outputs_of(data.classes).numpy()[data.labels(ids)], among.numpy())]


class _Batches:
    """The batches of all epochs with the outputs (or targets) that are right, older samples among them.

    A batch of one sample is left out: it has no batch statistics. steps: how many batches there are.
    """

    def __init__(
        self, model: Model, data: Dataset, ids: Ids, epochs: float, batch: int, ctx: Context, replay: Replay | None
    ) -> None:
        self.model, self.data, self.batch, self.ctx = model, data, batch, ctx
        self.alone = len(ids) == 1
        self.chosen = _epochs(ids, epochs, ctx.seed)
        self.steps = sum(len(own) // batch + (len(own) % batch > (0 if self.alone else 1)) for own in self.chosen)
        self.right = _right(model, data)
        self.older = _Older(model, replay, batch, ctx) if replay is not None else None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        ctx = self.ctx
        for epoch, own in enumerate(self.chosen):
            turn = self.data.batches(own, self.model.input, size=self.batch, device=ctx.device, seed=ctx.seed + epoch)
            for x, y, _ in ctx.track(turn, f"tuning, epoch {epoch + 1} of {len(self.chosen)}"):
                if len(x) == 1 and not self.alone:
                    continue
                if y is None:
                    raise DataError("Tuning met a batch without labels.", "Import the dataset again.")
                y = self.right(y)
                yield (x, y) if self.older is None else self.older.into(x, y)


def _epochs(ids: Ids, epochs: float, seed: int) -> list[Ids]:
    """The samples of each epoch; the last one may have a part of them."""
    whole = int(epochs)
    part = round((epochs - whole) * len(ids))
    rest = [np.sort(np.random.default_rng(seed).permutation(ids)[:part])] if part else []
    return [ids] * whole + rest


@contextmanager
def _training(module: nn.Module, held: Held | None) -> Iterator[None]:
    """Inside it, normalisation and dropout run in training mode, for what may move."""
    module.eval()
    for part in module.modules():
        if isinstance(part, NORMS):
            part.train()
    with held.statistics() if held is not None else nullcontext():
        yield


class _Older:
    """An endless supply of older samples."""

    def __init__(self, model: Model, replay: Replay, batch: int, ctx: Context) -> None:
        self.size = max(1, round(batch * replay.share / (1 - replay.share)))
        self.right = _right(model, replay.data)
        ids = replay.data.ids("train")
        turns = (
            replay.data.batches(ids, model.input, size=self.size, device=ctx.device, seed=ctx.seed + 7_919 * turn)
            for turn in itertools.count(1)
        )
        self.supply = itertools.chain.from_iterable(turns)

    def into(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A batch with older samples added to it."""
        old, truth, _ = next(self.supply)
        if truth is None:
            raise DataError("The older samples have no labels.", "Set the share of old samples to 0.")
        return torch.cat([x, old]), torch.cat([y, self.right(truth)])


def _right(model: Model, data: Dataset) -> Callable[[Tensor], Tensor]:
    """From a dataset's labels to the outputs that are right; targets of a regression stay."""
    if model.task == "regression":
        return lambda y: y
    place = model.outputs_of(data.classes)
    return lambda y: place.to(y.device)[y]


def _cross_entropy(among: Tensor | None) -> Loss:
    if among is None:
        return F.cross_entropy
    return lambda out, y: F.cross_entropy(out[:, among.to(out.device)], torch.searchsorted(among.to(y.device), y))


def _squared_error(data: Dataset) -> Loss:
    spread = float(torch.as_tensor(data.labels(data.ids("train"))).double().var().clamp(min=1e-12))
    return lambda out, y: F.mse_loss(out.squeeze(-1), y.float()) / spread
