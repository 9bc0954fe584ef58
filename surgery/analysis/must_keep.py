"""Which cases must never break: hard ones, ones typical of a decision, and ones that cover what there is.

After the preservation set of safety-guided self-compression (arXiv 2505.00350), whose code takes Grad-CAM mass,
uncertainty and k-means. Ours differ where that code leaks or misaligns: cases come from validation samples, never from
test; ids and labels stay together; and only cases that the model gets right are drawn, since no other can break.

Letters: b samples, d channels or features, s positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from surgery.context import Context
from surgery.data.splits import spread
from surgery.errors import DataError, SelectionError
from surgery.network.model import Model
from surgery.network.readers import Readers

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

LIMIT = 5_000  # validation samples that are looked at
SHARES: Mapping[str, float] = {"hard": 0.4, "typical": 0.3, "diverse": 0.3}
CLUSTERS = 8  # of the coverage
FEW = 0.5  # of its share in the data: less is said to be covered poorly


@dataclass(frozen=True)
class Seen:
    """What a model says of some samples. ids: int64[n]; labels: int64[n] outputs, or float[n] targets.

    unsure: float[n], 1 − the largest probability, the absolute error of a regression, or the loss of a window of text.
    right: bool[n], all True for a regression and for text. mass: float[n], the mean over positions of the Grad-CAM map
    of the answer. features: float32[n, d], what the output layer receives.
    """

    ids: NDArray[np.int64]
    labels: NDArray[Any]
    unsure: NDArray[np.float64]
    right: NDArray[np.bool_]
    mass: NDArray[np.float64]
    features: NDArray[np.float32]


def draw(
    model: Model,
    data: Dataset,
    ctx: Context,
    *,
    size: int = 50,
    least: int = 1,
    shares: Mapping[str, float] = SHARES,
    pinned: Sequence[int] = (),
) -> dict[int, str]:
    """sample -> why it is in, of `size` cases: the pinned ones, `least` of every class, and quotas of three kinds.

    hard: right, but the least sure; of text, the least likely windows (which no class has a minimum of). typical:
    right, with the largest Grad-CAM mass, classes by turns. diverse: right, and nearest to the centres of as many
    k-means clusters. shares: of what the pinned leave; their sum counts as all.

    Raises:
        SelectionError: more cases are asked of every class than there is room for, or all shares are 0.
        DataError: there are no labelled validation samples that the model gets right.
    """
    classes = len(data.classes) if data.task == "classification" and data.kind != "text" else 0
    room = size - len(pinned)
    if classes * least > size or room < 0:
        raise SelectionError(
            f"{size} cases have no room for {len(pinned)} pinned ones and {least} of each of {classes} classes.",
            "Ask for more cases in all, or fewer of each class.",
        )
    total = sum(shares.get(kind, 0.0) for kind in SHARES)
    if total <= 0:
        raise SelectionError("No kind of case has a share.", "Give hard, typical or diverse cases a share above 0.")
    ids = data.ids("val")
    if data.task == "unlabelled" or not len(ids):
        raise DataError(
            f"{data.name!r} has no labelled validation samples to draw must-keep cases from.",
            "Import it with labels, or so that a part is kept for validation.",
        )
    ids = np.setdiff1d(ids[spread(data.strata(ids), LIMIT, ctx.seed)], np.array(pinned, dtype=np.int64))
    seen = look(model, data, ids, ctx)
    cases = dict.fromkeys(pinned, "pinned")
    places = np.flatnonzero(seen.right)
    if not len(places) and not cases:
        raise DataError("The model gets none of the validation samples right: nothing can be kept.", "Check its input.")
    hardest = places[np.argsort(-seen.unsure[places], kind="stable")]
    counted = data.labels(list(pinned)) if pinned and classes else np.zeros(0, dtype=np.int64)
    for number in range(classes):
        own = hardest[data.labels(seen.ids[hardest]) == number]
        missing = max(0, least - int((counted == number).sum()))
        cases |= {int(seen.ids[place]): "hard" for place in own[:missing]}
    quotas = {kind: round(room * shares.get(kind, 0.0) / total) for kind in SHARES}
    quotas["hard"] = max(0, quotas["hard"] - sum(reason == "hard" for reason in cases.values()))
    orders: dict[str, Callable[[], NDArray[np.int64]]] = {
        "hard": lambda: hardest,
        "typical": lambda: _by_turns(data, seen, places[np.argsort(-seen.mass[places], kind="stable")]),
        "diverse": lambda: _diverse(seen, _left(seen, places, cases), quotas["diverse"], ctx.seed),
    }
    for kind, order in orders.items():
        _fill(cases, seen, order(), min(len(cases) + quotas[kind], size), kind)
    _fill(cases, seen, hardest, size, "hard")  # where a kind had too few
    return cases


def look(model: Model, data: Dataset, ids: NDArray[np.int64], ctx: Context) -> Seen:
    """Run a model over samples and keep what `draw` and `coverage` need of each."""
    module = model.module.to(ctx.device)
    found: dict[str, list[Tensor]] = {"out": [], "mass": [], "features": [], "loss": []}
    text, place = data.kind == "text", None
    if text:
        place = model.outputs_of(data.classes).to(ctx.device)
    output = _output_layer(model)
    received: list[Tensor] = []

    def before(layer: str, x: Tensor, _axis: int) -> Tensor:
        if layer == output:
            received.append(x)
        return x

    try:
        for x, y, _ in ctx.track(data.batches(ids, model.input, size=64, device=ctx.device), "looking at cases"):
            received.clear()
            with _maps(module) as maps, torch.enable_grad(), Readers(module, before):
                given = module(x if text else x.requires_grad_())
                out = model.answers(given)
                answer = out.argmax(1) if model.task == "classification" else torch.zeros(len(x), dtype=torch.long)
                picked = out.gather(1, answer.to(out.device)[:, None]).sum()
            features = received[-1].detach() if received else out.detach()
            features = features[:, -1] if text and features.dim() == 3 else features
            chosen = (
                maps[0 if text else -1] if maps else (received[-1] if received and received[-1].requires_grad else None)
            )
            found["mass"].append(_mass(picked, chosen, len(x)).cpu())
            if place is not None and y is not None:
                said, wanted = model.lessons(x, place[y], given)
                each = F.cross_entropy(said.detach(), wanted, reduction="none")
                found["loss"].append(each.view(len(x), -1).mean(1).cpu())
            found["out"].append(out.detach().float().cpu())
            found["features"].append(features.reshape(len(x), -1).float().cpu())
    finally:
        module.to("cpu")
    out, labels = torch.cat(found["out"]), data.labels(ids)
    if text:
        right, unsure = np.ones(len(ids), dtype=bool), torch.cat(found["loss"]).double().numpy()
    elif model.task == "classification":
        right = (out.argmax(1) == model.outputs_of(data.classes)[torch.as_tensor(labels)]).numpy()
        unsure = (1 - torch.softmax(out.double(), 1).amax(1)).numpy()
    else:
        right, unsure = np.ones(len(ids), dtype=bool), np.abs(out[:, 0].double().numpy() - labels)
    return Seen(
        ids, labels, unsure, right, torch.cat(found["mass"]).double().numpy(), torch.cat(found["features"]).numpy()
    )


def coverage(model: Model, data: Dataset, cases: Sequence[int], ctx: Context) -> dict[str, Any]:
    """Whether the cases stand for the data, and which of them are right: {rows, right}.

    rows: kind ("class" or "cluster"), name, cases and data (shares, 0–1), few (less than half its share). Clusters are
    k-means over validation samples and cases, by what the output layer receives. right: samples that the model gets
    right.
    """
    own = np.array(sorted(cases), dtype=np.int64)
    val = np.setdiff1d(data.ids("val"), own)
    val = val[spread(data.strata(val), LIMIT, ctx.seed)] if len(val) else val
    seen = look(model, data, np.concatenate([own, val]), ctx)
    mine = np.arange(len(seen.ids)) < len(own)
    rows = []
    if data.task == "classification":
        member = data.group_of(seen.labels)
        rows += [_row("class", name, member == number, mine) for number, name in enumerate(data.groups)]
    groups = _clusters(seen.features, min(CLUSTERS, len(seen.ids)), ctx.seed)[0]
    rows += [_row("cluster", str(number + 1), groups == number, mine) for number in range(int(groups.max()) + 1)]
    return {"rows": rows, "right": seen.ids[mine & seen.right].tolist()}


def _row(kind: str, name: str, members: NDArray[np.bool_], mine: NDArray[np.bool_]) -> dict[str, Any]:
    inside, there = float(members[mine].mean()), float(members.mean())
    return {"kind": kind, "name": name, "cases": inside, "data": there, "few": inside < FEW * there}


def _fill(cases: dict[int, str], seen: Seen, order: NDArray[np.int64], until: int, reason: str) -> None:
    """Take from an order of places until there are so many cases."""
    for place in order:
        if len(cases) >= until:
            return
        cases.setdefault(int(seen.ids[place]), reason)


def _left(seen: Seen, places: NDArray[np.int64], cases: Mapping[int, str]) -> NDArray[np.int64]:
    return places[~np.isin(seen.ids[places], list(cases))]


def _by_turns(data: Dataset, seen: Seen, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places in an order that lets the classes take turns."""
    strata = data.strata(seen.ids[order])
    rank = np.zeros(len(order), dtype=np.int64)
    for number in np.unique(strata):
        own = strata == number
        rank[own] = np.arange(own.sum())
    return order[np.argsort(rank, kind="stable")]


def _diverse(seen: Seen, places: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """The places nearest to the centres of so many clusters."""
    count = min(count, len(places))
    if not count:
        return places[:0]
    _, centres = _clusters(seen.features[places], count, seed)
    features = seen.features[places]
    nearest = [int(np.argmin(((features - centre) ** 2).sum(1))) for centre in centres]
    return places[list(dict.fromkeys(nearest))]


def _clusters(features: NDArray[np.float32], count: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn.cluster import KMeans

    distinct = len(np.unique(features, axis=0))
    found = KMeans(min(count, distinct), n_init=4, random_state=seed).fit(features)
    return found.labels_, found.cluster_centers_


def _output_layer(model: Model) -> str:
    """The name of the layer that writes the outputs; "" where the network is not numbered."""
    if model.index is None:
        return ""
    layers = model.index.layers.items()
    return next((name for name, layer in reversed(list(layers)) if bool(model.index.logits[layer.rows].any())), "")


@contextmanager
def _maps(module: nn.Module) -> Iterator[list[Tensor]]:
    """Inside it, a list of the outputs of innermost modules that have positions, in the order they are made."""
    found: list[Tensor] = []

    def see(_module: nn.Module, _given: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.requires_grad and out.dim() in (3, 4) and out[0].numel() > out.shape[1]:
            found.append(out)

    handles = [part.register_forward_hook(see) for part in module.modules() if not list(part.children())]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _mass(answer: Tensor, activation: Tensor | None, samples: int) -> Tensor:
    """float[b]: mean over positions of relu(Σ_u α_u A_u), α the mean gradient (Grad-CAM, arXiv 1610.02391).

    activation: float[b, d, h, w], [b, s, d] or [b, d]; other orders of samples, or none, have no mass.
    """
    if activation is None or activation.shape[0] != samples:
        return torch.zeros(samples)
    (slope,) = torch.autograd.grad(answer, activation)
    a, g = activation.detach(), slope
    if a.dim() == 4:
        a, g = a.flatten(2), g.flatten(2)
    elif a.dim() == 3:
        a, g = a.transpose(1, 2), g.transpose(1, 2)
    else:
        a, g = a[:, :, None], g[:, :, None]
    return torch.relu((g.mean(2, keepdim=True) * a).sum(1)).mean(1)
