"""How critical each neuron is for each class: the five contribution scores of NeuSemSlice (arXiv 2407.20281).

Definitions are ours where the paper is silent. For class c, over its samples, with a_u what the readers of neuron u
receive: Avg = mean |a_u| (a_u averaged over space), Var = its variance, Ens = the sum of both ranked within their
layer, Taylor = mean |Σ a_u · ∂L/∂a_u|, DeepLIFT = mean |Σ (a_u − a_u⁰) · m_u| toward the logit of c. Avg and Var come
out of a scan; Taylor and DeepLIFT cost one forward and two backwards per batch. Members of a coupled group share one
score. N neurons, C classes, G groups, b samples of a batch.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy.stats import rankdata
from torch import Tensor

from surgery.analysis.folded import folded
from surgery.analysis.gradients import Gradients, columns, frozen, rewritten
from surgery.analysis.kept import CELLS
from surgery.analysis.rescale import Rescaling
from surgery.analysis.scan import Scan, samples_of
from surgery.analysis.watch import layouts
from surgery.context import Context
from surgery.errors import DataError, ModelError
from surgery.network.index import NeuronIndex
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

Score = Literal["avg", "var", "ens", "taylor", "deeplift"]
SCORES: tuple[Score, ...] = ("avg", "var", "ens", "taylor", "deeplift")
LIMIT = 2_000  # samples for the two scores that need gradients: a mean over a class settles with a few dozen
SMALLEST, LARGEST, NUMBERS = 8, 128, 2**21  # of a batch: samples, and numbers of input in all
Fill = Literal["zero", "mean"]


@dataclass(frozen=True)
class Criticality:
    """scores: name -> float32[N, C], 0 for logits and for classes without samples; count: float32[C], samples that
    the gradient scores saw. classes: names of the C columns. inputs: what it was computed from.
    """

    scores: Mapping[str, Tensor]
    count: Tensor
    classes: tuple[str, ...]
    inputs: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write `criticality.safetensors` and `criticality.json` into an existing folder."""
        tensors = {name: score.contiguous() for name, score in self.scores.items()}
        save_file({**tensors, "count": self.count}, folder / "criticality.safetensors")
        about = {"classes": self.classes, "inputs": dict(self.inputs)}
        (folder / "criticality.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Criticality:
        """Read what `save` wrote."""
        about = json.loads((folder / "criticality.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "criticality.safetensors")
        count = tensors.pop("count")
        return cls({name: tensors[name] for name in SCORES}, count, tuple(about["classes"]), about["inputs"])


def criticality(
    model: Model,
    data: Dataset,
    found: Scan,
    ctx: Context,
    *,
    limit: int = LIMIT,
    batch: int | None = None,
    fill: Fill = "zero",
) -> Criticality:
    """All five scores; `found` is a scan of the same model on the same data, whose role and classes are used.

    limit: samples for Taylor and DeepLIFT, evenly over classes. batch: by default at most 128, fewer of large inputs,
    since a backward pass keeps all activations of a batch. fill: what removing a neuron would leave behind: with
    "mean", Taylor is of a_u − mean a_u. The loss L is cross-entropy with the true class, or squared error; on
    unlabelled data, cross-entropy with the model's own answer. DeepLIFT's baseline is an input of zeros (what the
    model sees, after normalisation); for a regression its target is the output.

    Raises:
        ModelError: the network has no index. DataError: no samples, other classes than the model's, or more neurons and
        classes than the memory rule of `analysis.kept` allows. Cancelled.
    """
    index = _index(model)
    if found.kept is not None:
        raise DataError(
            f"{index.n:,} neurons × {len(found.classes):,} classes are more scores than fit in memory "
            f"(the limit is {CELLS:,}).",
            "Choose a dataset with fewer classes.",
        )
    count, by_loss, by_logit = by_gradient(model, data, found, ctx, limit=limit, batch=batch, fill=fill)
    avg, var = (of_groups(index, table) for table in (found.absolute, found.var))
    scores = {"avg": avg, "var": var, "ens": ensemble(index, avg, var), "taylor": by_loss, "deeplift": by_logit}
    inputs = {**found.inputs, "limit": limit, "fill": fill, "samples": int(count.sum()), "baseline": "zeros"}
    return Criticality(scores, count, found.classes, inputs)


def taylor(model: Model, data: Dataset, found: Scan, ctx: Context, *, limit: int = LIMIT) -> Tensor:
    """float32[N, C]: the Taylor scores alone, with means; arguments and errors as of `criticality`."""
    return by_gradient(model, data, found, ctx, limit=limit, fill="mean", deeplift=False)[1]


def by_gradient(
    model: Model,
    data: Dataset,
    found: Scan,
    ctx: Context,
    *,
    limit: int = LIMIT,
    batch: int | None = None,
    fill: Fill = "zero",
    deeplift: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """(samples per class float32[C], Taylor, DeepLIFT: float32[N, C]; zeros without `deeplift`).

    Arguments and errors: `criticality`.
    """
    index, classes = _index(model), len(found.classes)
    _, ids, groups, _ = samples_of(data, str(found.inputs["role"]), limit, ctx.seed)
    batch = batch or max(SMALLEST, min(LARGEST, NUMBERS // math.prod(model.input.shape)))
    module = model.module if ctx.device == "cpu" else copy.deepcopy(model.module).to(ctx.device)
    two = model.input.example(2, ctx.device)
    module = folded(module, index, two)
    gradients = Gradients(
        module,
        layouts(module, index, two),
        columns(index, index.point),
        groups=int(index.point.sum()),
        changed=rewritten(module, two),
        means=found.means if fill == "mean" else None,
    )
    answers = _Answers(model, data, found.classes)
    sums = torch.zeros(2, classes, int(index.point.sum()), dtype=torch.float64)
    count = torch.zeros(classes, dtype=torch.float64)
    with frozen(module):
        for x, y, chosen in ctx.track(data.batches(ids.numpy(), model.input, size=batch, device=ctx.device), "scoring"):
            own = groups[torch.searchsorted(ids, torch.as_tensor(chosen))]
            given = torch.cat([x, torch.zeros_like(x[:1])])  # the baseline goes last
            gradients.expect(len(given))
            with Rescaling(len(given)) as rescaling, gradients:
                out = module(given)
            out = model.answers(out)
            loss, logit = answers.loss(out[:-1], y), answers.target(out, y)
            if not torch.isfinite(loss):
                raise ModelError("The model answers NaN or infinity on this data.", "Check its weights and input.")
            pair = [gradients.collect(loss, keep_graph=deeplift)]
            if deeplift:
                pair.append(gradients.collect(logit, rescaling=rescaling))
            member = F.one_hot(own, classes).double()
            count += member.sum(0)
            for total, table in zip(sums, pair, strict=False):
                total += member.T @ table[:-1].abs().double().cpu()
    by_loss, by_logit = (_spread(index, (total / count.clamp(min=1)[:, None]).T.float()) for total in sums)
    return count.float(), by_loss, by_logit


def of_groups(index: NeuronIndex, table: Tensor) -> Tensor:
    """float[N, C]: every member of a coupled group has the score of its point, the first one read; logits have 0."""
    return torch.where(index.logits[:, None], 0.0, table[index.group])


def ensemble(index: NeuronIndex, avg: Tensor, var: Tensor) -> Tensor:
    """float32[N, C], 0–2: Avg and Var, each as rank within its layer (0 = least, 1 = most, ties shared), summed."""
    score = torch.zeros_like(avg)
    points = index.point.nonzero()[:, 0]
    for layer in index.layer_of[points].unique().tolist():
        own = points[index.layer_of[points] == layer]
        ranks = sum(rankdata(table[own].numpy(), axis=0) - 1 for table in (avg, var))
        score[own] = torch.from_numpy(np.asarray(ranks / max(len(own) - 1, 1))).float()
    return torch.where(index.logits[:, None], 0.0, score[index.group])


class _Answers:
    """What the two backward passes start from."""

    def __init__(self, model: Model, data: Dataset, classes: tuple[str, ...]) -> None:
        self.regression = model.task == "regression"
        labelled = data.task == "classification" and classes == data.groups
        if data.task not in (model.task, "unlabelled"):
            raise DataError(f"The model is made for {model.task}, the dataset for {data.task}.", "Choose another.")
        self.place = model.outputs_of(data.classes) if labelled else None

    def loss(self, out: Tensor, y: Tensor | None) -> Tensor:
        """The sum over samples of what Taylor differentiates; out: float[b, outputs]."""
        if self.regression:
            return ((out[:, 0] - self._truth(out, y)) ** 2).sum()
        return F.cross_entropy(out, self._classes(out, y), reduction="sum")

    def target(self, out: Tensor, y: Tensor | None) -> Tensor:
        """The sum over samples of the logit that DeepLIFT explains; out: float[b + 1, outputs], the baseline last."""
        if self.regression:
            return out[:-1, 0].sum()
        return out[:-1].gather(1, self._classes(out[:-1], y)[:, None]).sum()

    def _classes(self, out: Tensor, y: Tensor | None) -> Tensor:
        if y is None or self.place is None:
            return out.argmax(1)
        return self.place.to(out.device)[y]

    def _truth(self, out: Tensor, y: Tensor | None) -> Tensor:
        return out[:, 0].detach() if y is None else y.to(out)


def _spread(index: NeuronIndex, table: Tensor) -> Tensor:
    """float[N, C] of float[G, C]: every member of a group has its group's score; logits have 0."""
    number = torch.zeros(index.n, dtype=torch.long)
    number[index.point] = torch.arange(int(index.point.sum()))
    return torch.where(index.logits[:, None], 0.0, table[number[index.group]])


def _index(model: Model) -> NeuronIndex:
    if model.index is None:
        raise ModelError(
            f"The neurons of this network are not numbered: {model.support.reason}.", "It can only be inspected."
        )
    return model.index
