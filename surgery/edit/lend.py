"""Let one network begin where another has come to: a share between two of their cuts, with an adapter in closed form.

Letters: b samples of a batch, c channels or features of the host's representation, d of the guest's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from surgery.edit.compose import seen_by
from surgery.edit.evaluate import placed
from surgery.errors import DivergedError, SelectionError
from surgery.network.cuts import Cut
from surgery.network.fleet import Back, Fit, Fleet, Front, Shared, resized, share_of
from surgery.network.model import Architecture, Model
from surgery.network.trace import trace

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids

NAME = "fleet/guest"
RIDGE = 1e-3  # of the mean variance of a channel


@dataclass(frozen=True)
class Share:
    """A guest goes on at its cut `at` from what the host has at its cut `cut`; adapter: None = taken as it is."""

    cut: Cut
    at: Cut
    adapter: Fit | None

    def to_json(self) -> dict[str, Any]:
        """What `network.fleet` builds it from."""
        return share_of(self.cut.name, self.cut.later, self.at.name, self.at.blanks, form_of(self.adapter))

    @property
    def saved(self) -> int:
        """Bytes of weights that the guest no longer needs, less those of the adapter."""
        own = sum(tensor.nbytes for tensor in self.adapter.state_dict().values()) if self.adapter else 0
        return self.at.bytes - own


def fits(cut: Cut, at: Cut) -> bool:
    """Whether an adapter between two representations is possible: both maps, both vectors, or as many tokens each."""
    return len(cut.shape) == len(at.shape) and (len(cut.shape) in (1, 3) or cut.shape[:-1] == at.shape[:-1])


def form_of(adapter: Fit | None) -> dict[str, Any] | None:
    """The arguments that an adapter is built from."""
    if adapter is None:
        return None
    outputs, inputs = adapter.map.weight.shape[:2]
    return {"inputs": inputs, "outputs": outputs, "dims": 4 if adapter.spatial else 2, "size": list(adapter.size)}


def ridge(
    host: Model, guest: Model, cut: Cut, at: Cut, data: Dataset, ids: Ids, ctx: Context, *, strength: float = RIDGE
) -> Fit:
    """The linear map of channels that brings the host's representation closest to the guest's, by least squares.

    No labels, no steps: both networks see the samples once, and the normal equations of all samples and places are
    solved, with `strength` times the mean variance of a channel on their diagonal.

    Raises:
        SelectionError: no map is possible between the two forms.
    """
    if not fits(cut, at):
        raise SelectionError(
            f"{cut.name} gives {list(cut.shape)}, {at.name} wants {list(at.shape)}: no linear map of channels fits.",
            "Choose cuts of one form: maps, tokens or vectors.",
        )
    maps = len(cut.shape) == 3
    size = at.shape[1:] if maps else ()
    fronts = [Front(model.module, one.name, one.later) for model, one in ((host, cut), (guest, at))]
    moments = _Moments()
    sources = [data.batches(ids, model.input, device=ctx.device) for model in (host, guest)]
    with placed(ctx.device, host.module, guest.module), torch.inference_mode():
        for (x, _, _), (z, _, _) in ctx.track(zip(*sources, strict=True), "fitting an adapter", total=len(sources[0])):
            moments.add(_rows(resized(fronts[0](x), size), maps), _rows(fronts[1](z), maps))
    weight, bias = moments.solve(strength)
    fit = Fit(weight.shape[1], weight.shape[0], 4 if maps else 2, size).eval()
    fit.map.load_state_dict({"weight": weight.reshape(fit.map.weight.shape), "bias": bias})
    return fit


def tuned(
    host: Model,
    guest: Model,
    share: Share,
    data: Dataset,
    ids: Ids,
    ctx: Context,
    *,
    epochs: float,
    rate: float = 1e-3,
    batch: int = 64,
) -> Share:
    """The share with its adapter trained towards what the guest itself says: no labels, and nothing else moves.

    Raises:
        DivergedError: the loss became NaN.
    """
    if share.adapter is None or not epochs:
        return share
    adapter = copy.deepcopy(share.adapter).to(ctx.device)
    front = Front(host.module, share.cut.name, share.cut.later)
    back = Back(guest.module, share.at.name, share.at.blanks)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=rate)
    rng = np.random.default_rng(ctx.seed)
    chosen = np.concatenate([rng.permutation(ids) for _ in range(math.ceil(epochs))])[: round(epochs * len(ids))]
    sources = [data.batches(chosen, model.input, size=batch, device=ctx.device) for model in (host, guest)]
    with placed(ctx.device, host.module, guest.module):
        for (x, _, _), (z, _, _) in ctx.track(zip(*sources, strict=True), "tuning an adapter", total=len(sources[0])):
            with torch.no_grad():
                found, target = front(x), guest.answers(guest.module(z)).log_softmax(1)
            said = guest.answers(back(adapter(found), z)).log_softmax(1)
            loss = F.kl_div(said, target, reduction="batchmean", log_target=True)
            if not torch.isfinite(loss):
                raise DivergedError("The loss became NaN while tuning an adapter.", "Tune for 0 epochs.")
            for parameter, slope in zip(
                adapter.parameters(), torch.autograd.grad(loss, [*adapter.parameters()]), strict=True
            ):
                parameter.grad = slope  # of the adapter alone: the networks are not touched
            optimizer.step()
            ctx.point(loss=float(loss.detach()))
    return replace(share, adapter=adapter.to("cpu").eval())


def lend(host: Model, guest: Model, share: Share, *, numbered: bool = False) -> Model:
    """The guest as a model whose beginning is the host's; both stay as they are, their tensors are shared.

    numbered: number its neurons too.
    """
    arguments = {"host": about(host), "guest": about(guest), "share": share.to_json()}
    module = Shared(**arguments, networks=(host.module, guest.module)).eval()
    if share.adapter is not None:
        module.adapter.load_state_dict(share.adapter.state_dict())
    made = replace(
        guest,
        module=module,
        architecture=Architecture(NAME, arguments),
        index=None,
        origins=tuple(dict.fromkeys((*guest.origins, *host.origins))),
        held=_there(host.held, module, "front") | _there(guest.held, module, "back"),
        precision=_there(host.precision, module, "front") | _there(guest.precision, module, "back"),
        parts=(),
    )
    if not numbered:
        return made
    index, support = trace(module, made.input.example(2))
    return replace(made, index=index, support=support)


def fleet_of(models: Mapping[str, Model], shares: Mapping[str, tuple[str, Share]]) -> Fleet:
    """All models as one network that computes a shared beginning once; shares: guest -> its host and the share."""
    members = {name: about(model) | {"classes": list(model.classes)} for name, model in models.items()}
    described = {guest: {"host": host, **share.to_json()} for guest, (host, share) in shares.items()}
    fleet = Fleet(members, described, {name: model.module for name, model in models.items()}).eval()
    for guest, (_, share) in shares.items():
        if share.adapter is not None:
            fleet.adapters[str(fleet.names.index(guest))].load_state_dict(share.adapter.state_dict())
    return fleet


def about(model: Model) -> dict[str, Any]:
    """A member as `network.fleet` builds it."""
    architecture = model.architecture
    seen = seen_by(model.input)
    found = {
        "name": architecture.name,
        "arguments": dict(architecture.arguments),
        "mean": seen["mean"],
        "std": seen["std"],
    }
    more = {"output": model.output, "source": architecture.source}
    return found | {key: value for key, value in more.items() if value}


class _Moments:
    """Sums of products, from which least squares follow."""

    def __init__(self) -> None:
        self.count, self.xx, self.xy = 0, torch.zeros(0), torch.zeros(0)
        self.x, self.y = torch.zeros(0), torch.zeros(0)

    def add(self, x: Tensor, y: Tensor) -> None:
        """x: float[rows, c], y: float[rows, d]."""
        found = [(x.T @ x).double(), (x.T @ y).double(), x.double().sum(0), y.double().sum(0)]
        if self.count:
            found = [old + new for old, new in zip((self.xx, self.xy, self.x, self.y), found, strict=True)]
        self.xx, self.xy, self.x, self.y = found
        self.count += len(x)

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """float[d, c] and float[d]: weight and bias."""
        mean, target = self.x / self.count, self.y / self.count
        covariance = self.xx / self.count - torch.outer(mean, mean)
        cross = self.xy / self.count - torch.outer(mean, target)
        level = strength * covariance.diagonal().mean().clamp(min=1e-12)
        covariance = covariance + level * torch.eye(len(mean), dtype=covariance.dtype, device=covariance.device)
        weight = torch.linalg.solve(covariance, cross)  # c, d
        return weight.T.float().cpu(), (target - mean @ weight).float().cpu()


def _rows(found: Tensor, maps: bool) -> Tensor:
    """float[rows, channels]: every place of every sample."""
    return (found.movedim(1, -1) if maps else found).flatten(0, -2)


def _there(stored: Mapping[str, Any], module: Shared, side: str) -> dict[str, Any]:
    """How tensors of one side are stored (by name), those that are still there."""
    own = module.state_dict().keys()
    found = {f"{side}.network.{name}": value for name, value in stored.items()}
    return {name: value for name, value in found.items() if name in own}


def drawn(ids: Ids, most: int, seed: int) -> Ids:
    """At most so many of the samples, in a seeded draw."""
    return ids if len(ids) <= most else np.sort(np.random.default_rng(seed).permutation(ids)[:most])
