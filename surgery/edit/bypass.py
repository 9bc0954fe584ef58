"""Take a whole layer out of a plain MLP: the next one reads what the layer read, by the linear map that fits best.

A layer is worth its place for what it bends. Where what the next layer makes of it is nearly a linear function of what
it receives, one matrix does the work of both. The closed form is ours: ridge regression on training samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from surgery.context import Context
from surgery.edit.evaluate import training_ids
from surgery.errors import SelectionError
from surgery.network.architectures import build
from surgery.network.model import Architecture, Model
from surgery.network.trace import trace

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

RIDGE = 1e-3  # of the mean variance of what the layer receives
LIMIT = 4_000  # training samples


@dataclass(frozen=True)
class Bypass:
    """The network without a layer; kept: int64[n], the old id of each of its neurons.

    unexplained: the share (0–1) of the variance of the next layer's sums that no linear map of the input explains.
    """

    model: Model
    kept: Tensor
    unexplained: float


def layers_of(model: Model) -> list[str]:
    """The hidden layers that can be taken out, in order: those of an architecture "mlp"."""
    return _names(model)[:-1] if model.architecture.name == "mlp" else []


def _names(model: Model) -> list[str]:
    """The linear layers of an architecture "mlp", in order."""
    module: Any = model.module
    return [str(name) for name in module.names]


def bypass(model: Model, name: str, data: Dataset, ctx: Context) -> Bypass:
    """A new model without the hidden layer `name`; the input model is untouched.

    Raises:
        SelectionError: the model is no plain MLP, or has no such hidden layer.
    """
    names = layers_of(model)
    if name not in names:
        raise SelectionError(
            f"{name!r} is no hidden layer of a plain MLP; it has {', '.join(names) or 'none'}.",
            "Whole layers can be taken out of architectures 'mlp' only.",
        )
    everything = _names(model)
    after = everything[everything.index(name) + 1]
    x, z = _seen(model, name, after, data, ctx)
    weight, bias, unexplained = fitted(x, z)
    left = [one for one in everything if one != name]
    layers: dict[str, Any] = {one: model.module.get_submodule(one) for one in left}
    sizes = [weight.shape[1] if left[0] == after else layers[left[0]].in_features]
    sizes += [layers[one].out_features for one in left]
    arguments = {**model.architecture.arguments, "sizes": sizes, "names": left, "bias": True}
    module = build(Architecture("mlp", arguments)).eval()
    with torch.no_grad():
        for one in left:
            target: Any = module.get_submodule(one)
            target.weight.copy_(weight if one == after else layers[one].weight)
            own = bias if one == after else layers[one].bias
            target.bias.copy_(torch.zeros_like(target.bias) if own is None else own)
    index, support = trace(module, model.input.example(2))
    made = replace(
        model, module=module, architecture=Architecture("mlp", arguments), index=index, support=support, parts=()
    )
    assert model.index is not None
    kept = torch.cat([model.index.layers[one].rows for one in left])
    return Bypass(made, kept, unexplained)


def fitted(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, float]:
    """float32[out, in] and float32[out] of the ridge regression of z on x, and the share of variance that it leaves.

    x: float[n, in]; z: float[n, out].
    """
    x, z = x.double(), z.double()
    centre, middle = x.mean(0), z.mean(0)
    flat, wanted = x - centre, z - middle
    gram = flat.T @ flat
    ridge = RIDGE * gram.diagonal().mean().clamp(min=1e-30)
    weight = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), flat.T @ wanted).T
    left = (wanted - flat @ weight.T).square().sum() / wanted.square().sum().clamp(min=1e-30)
    return weight.float(), (middle - weight @ centre).float(), float(left)


def _seen(model: Model, name: str, after: str, data: Dataset, ctx: Context) -> tuple[Tensor, Tensor]:
    """float[n, in] that a layer receives, and float[n, out], the sums of the layer after it."""
    ids = np.sort(np.random.default_rng(ctx.seed).permutation(training_ids(data))[:LIMIT])
    received: list[Tensor] = []
    summed: list[Tensor] = []

    def before(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        received.append(given[0].detach().cpu())

    def behind(_module: nn.Module, _given: tuple[Tensor, ...], out: Tensor) -> None:
        summed.append(out.detach().cpu())

    module = model.module.to(ctx.device)
    handles = [
        module.get_submodule(name).register_forward_pre_hook(before),
        module.get_submodule(after).register_forward_hook(behind),
    ]
    try:
        with torch.no_grad():
            for x, _, _ in ctx.track(data.batches(ids, model.input, device=ctx.device), "reading layers"):
                model(x)
    finally:
        for handle in handles:
            handle.remove()
        module.to("cpu")
    return torch.cat(received), torch.cat(summed)
