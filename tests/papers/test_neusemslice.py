"""NeuSemSlice (arXiv 2407.20281), slow and literal: the five scores one neuron, one sample at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerDeepLift
from torch import Tensor, nn

from surgery.analysis.criticality import Criticality, criticality
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.gate import gate
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace
from tests import pico


class PlainReLU(nn.Module):
    """Two convolutions with a pool between, flattened into a hidden layer: every neuron has one reader."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.act_one = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.two, self.act_two = nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(inplace=True)
        self.mid, self.act_mid = nn.Linear(5 * 9, 6), nn.ReLU()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act_two(self.two(self.act_one(self.one(x))))
        return self.head(self.act_mid(self.mid(x.flatten(1))))


def patient(module: nn.Module) -> Model:
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.05, 0.4)
    module.eval()
    index, support = trace(module, torch.rand(2, 1, 8, 8))
    spec = InputSpec("image", (1, 8, 8), (0.3,), (0.4,))
    return Model(module, Architecture("pico"), spec, "classification", ("bars", "columns", "square"), index, support)


def scored(model: Model, data: Dataset) -> Criticality:
    found = scan(model, data, Context())
    return criticality(model, data, found, Context(), limit=len(data.ids("train")), batch=7)


def samples(model: Model, data: Dataset) -> tuple[Tensor, Tensor]:
    batches = list(data.batches(data.ids("train"), model.input))
    return torch.cat([x for x, _, _ in batches]), torch.cat([y for _, y, _ in batches])


def per_class(values: Tensor, y: Tensor) -> Tensor:
    """[N, C]: mean of |values: [samples, N]| over each class."""
    return torch.stack([values[y == c].abs().mean(0) for c in range(3)], 1)


@pytest.mark.parametrize("module", [PlainReLU, pico.Residual, pico.Depthwise, pico.Concat])
def test_taylor_is_the_derivative_of_the_loss_with_respect_to_the_gate(
    module: type[nn.Module], pico_images: Dataset
) -> None:
    model = patient(module())
    index = model.index
    x, y = samples(model, pico_images)
    taylor = torch.zeros(len(x), index.n)
    for i in range(len(x)):
        value = torch.ones(index.n, requires_grad=True)
        with gate(model.module, index, value):
            F.cross_entropy(model.module(x[i : i + 1]), y[i : i + 1]).backward()
        for u in range(index.n):  # a group goes together: its members' derivatives add up
            taylor[i, u] = value.grad[index.group == index.group[u]].sum()
    hidden = ~index.logits
    found = scored(model, pico_images).scores["taylor"]
    torch.testing.assert_close(found[hidden], per_class(taylor, y)[hidden], rtol=1e-4, atol=1e-6)
    assert not found[~hidden].any()


def test_deeplift_agrees_with_captum_on_a_plain_relu_network(pico_images: Dataset) -> None:
    model = patient(PlainReLU())
    x, y = samples(model, pico_images)
    found = scored(model, pico_images).scores["deeplift"]
    for layer, writer, size in (("two", "one", 64), ("mid", "two", 9), ("head", "mid", 1)):
        lift = LayerDeepLift(model.module, model.module.get_submodule(layer))
        given = lift.attribute(x, torch.zeros_like(x), target=y, attribute_to_layer_input=True).detach()
        own = given.reshape(len(x), -1, size).sum(2)
        rows = model.index.layers[writer].rows
        torch.testing.assert_close(found[rows], per_class(own, y), rtol=1e-4, atol=1e-5)


def test_avg_var_and_ens_one_neuron_at_a_time(pico_images: Dataset) -> None:
    model = patient(pico.Residual())
    index, module = model.index, model.module
    x, y = samples(model, pico_images)
    with torch.no_grad():
        stem = F.relu(module.norm(module.stem(x)))
        one = F.relu(module.one(stem))
        seen = {"stem": stem.mean((2, 3)), "one": one.mean((2, 3))}
    found = scored(model, pico_images).scores
    for layer, values in seen.items():
        rows = index.layers[layer].rows
        ranks = torch.zeros(len(rows), 3)
        for c in range(3):
            own = values[y == c]
            torch.testing.assert_close(found["avg"][rows, c], own.abs().mean(0), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(found["var"][rows, c], own.var(0, correction=0), rtol=1e-3, atol=1e-6)
            for score in (own.abs().mean(0), own.var(0, correction=0)):
                for u in range(len(rows)):
                    ranks[u, c] += sum(float(score[v] < score[u]) for v in range(len(rows))) / (len(rows) - 1)
        torch.testing.assert_close(found["ens"][rows], ranks, rtol=1e-5, atol=1e-6)


def test_scores_survive_the_disk(pico_images: Dataset, tmp_path: Path) -> None:
    made = scored(patient(pico.Residual()), pico_images)
    made.save(tmp_path)
    again = Criticality.load(tmp_path)
    assert again.classes == made.classes and dict(again.inputs) == dict(made.inputs)
    assert all(torch.equal(again.scores[name], score) for name, score in made.scores.items())
    assert int(made.count.sum()) == len(pico_images.ids("train")) and np.isfinite(float(made.count.sum()))
