"""Similarity and sharing as the formulas stand (arXiv 2410.11233; debiased linear CKA), written out slowly."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from surgery.analysis.similarity import similarities, similarity
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.lend import Share, lend, ridge
from surgery.network.cuts import cuts_of
from surgery.network.model import Model
from tests.patients import digits, fleet


def seen(model: Model, x: Tensor) -> list[Tensor]:
    """What each part of a digits network gives, by running the parts one after the other."""
    module, found = model.module, []
    for name in ("stem", "down", "block", "top"):
        found.append(module.get_submodule(name)(x).detach())
        x = found[-1].relu()
    return found


def centred(gram: Tensor) -> Tensor:
    n = len(gram)
    g = gram.clone()
    for i in range(n):
        g[i, i] = 0
    m = torch.stack([sum(g[i, j] for j in range(n)) / (n - 2) for i in range(n)])  # type: ignore[call-overload]
    m = m - m.sum() / (2 * (n - 1))
    for i in range(n):
        for j in range(n):
            g[i, j] = 0 if i == j else g[i, j] - m[i] - m[j]
    return g


def literal(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Batches of two representations -> S, the three sums taken over all batches before dividing."""
    cross = own = others = 0.0
    for x, y in zip(one, other, strict=True):
        a, b = (centred(z.flatten(1).double() @ z.flatten(1).double().T) for z in (x, y))
        cross, own, others = cross + float((a * b).sum()), own + float((a * a).sum()), others + float((b * b).sum())
    return cross / (own * others) ** 0.5


def test_similarity_is_the_formula(pico_many: Dataset) -> None:
    one, _, other = fleet()
    ids, size = pico_many.ids("train")[:60], 20
    found = similarity(one, other, pico_many, ids, Context(seed=4), batch=size)
    order = ids[np.random.default_rng(4).permutation(len(ids))]
    batches: list[list[list[Tensor]]] = [
        [seen(model, x) for x, _, _ in pico_many.batches(order, model.input, size=size)] for model in (one, other)
    ]
    assert found.layers == (("stem", "down", "block", "top"),) * 2
    for i in range(4):
        for j in range(4):
            written = literal([batch[i] for batch in batches[0]], [batch[j] for batch in batches[1]])
            assert abs(float(found.value[i, j]) - written) <= 1e-5


def test_a_network_is_like_itself(pico_many: Dataset) -> None:
    model = fleet()[0]
    for metric in ("cka", "procrustes", "profile"):
        found = similarity(model, model, pico_many, pico_many.ids("train"), Context(), metric=metric, batch=50)
        assert (found.value.diagonal() - 1).abs().max() <= 1e-5
        torch.testing.assert_close(found.value, found.value.T)
        if metric != "profile":
            assert bool((found.low <= found.value + 1e-9).all())


def shuffled(model: Model) -> Model:
    """The same function, the channels of `down` in another order and three times as large."""

    module = copy.deepcopy(model.module)
    conv, norm = (
        next(p for p in module.get_submodule("down").modules() if isinstance(p, kind))
        for kind in (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    )
    order = torch.randperm(conv.out_channels, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        conv.weight.copy_(conv.weight[order])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).copy_(getattr(norm, name)[order])
        norm.weight.mul_(3)
        norm.bias.mul_(3)
    return replace(model, module=module)


def test_similarity_sees_no_order_and_no_scale_but_sharing_does(pico_many: Dataset) -> None:
    """The measured warning: high S, useless merge; a linear map in closed form repairs it."""
    model = fleet()[0]
    other = shuffled(model)
    ids = pico_many.ids("train")
    found = similarity(model, other, pico_many, ids, Context(), layers=(["down"], ["down"]), batch=50)
    assert abs(float(found.value) - 1) <= 1e-5
    cut, x = cuts_of(model)[1], next(iter(pico_many.batches(ids, model.input, size=100)))[0]
    with torch.no_grad():
        said = model(x)
        plain = lend(other, model, Share(cut, cut, None))(x)
        fitted = lend(
            other, model, Share(cut, cut, ridge(other, model, cut, cut, pico_many, ids, Context(), strength=1e-6))
        )(x)
    assert (plain.argmax(1) != said.argmax(1)).double().mean() > 0.1
    assert (fitted.argmax(1) == said.argmax(1)).all()
    torch.testing.assert_close(fitted, said, rtol=1e-2, atol=2e-2)


def test_the_adapter_is_ridge_regression(pico_many: Dataset) -> None:
    """W = (XᵀX/n + λI)⁻¹ XᵀY/n of centred rows, every place of every sample a row."""
    one, _, other = fleet()
    cut, at = cuts_of(one)[1], cuts_of(other)[2]  # down, block: maps of one size
    ids = pico_many.ids("train")[:40]
    fit = ridge(one, other, cut, at, pico_many, ids, Context(), strength=0.01)
    with torch.no_grad():
        x = seen(one, next(iter(pico_many.batches(ids, one.input, size=40)))[0])[1]
        y = seen(other, next(iter(pico_many.batches(ids, other.input, size=40)))[0])[2]
    rows, wanted = (z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).double() for z in (x, y))
    mean, target = rows.mean(0), wanted.mean(0)
    a, b = rows - mean, wanted - target
    covariance = a.T @ a / len(a)
    level = 0.01 * covariance.diagonal().mean()
    weight = torch.linalg.inv(covariance + level * torch.eye(len(mean))) @ (a.T @ b / len(a))
    found = fit.map.weight.detach().double()[:, :, 0, 0].T
    assert float((found - weight).abs().max()) <= 1e-4 * float(weight.abs().max())
    assert fit.map.bias is not None
    torch.testing.assert_close(fit.map.bias.detach().double(), target - mean @ weight, rtol=1e-3, atol=1e-4)


def test_several_models_run_once_each(pico_many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    models = dict(zip("abc", fleet(), strict=True))
    passes: list[int] = []
    for model in models.values():
        model.module.register_forward_hook(lambda *_: passes.append(1))
    ids = pico_many.ids("train")[:40]
    layers = {name: ["stem", "top"] for name in models}
    both = similarities(models, pico_many, ids, Context(), layers=layers, batch=20)
    for model in models.values():
        model.module._forward_hooks.clear()
    assert len(passes) == 3 * 2, "two batches each"
    assert list(both) == [("a", "b"), ("a", "c"), ("b", "c")]
    alone = similarity(models["a"], models["c"], pico_many, ids, Context(), layers=(layers["a"], layers["c"]), batch=20)
    assert torch.equal(both["a", "c"].value, alone.value)
    assert digits().module is not models["a"].module
