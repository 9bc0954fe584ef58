"""NeuSemSlice (arXiv 2407.20281), slow and literal: one neuron, one sample, one weight at a time."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerDeepLift
from torch import Tensor, nn

from surgery.analysis.cka import debiased_cka
from surgery.analysis.criticality import Criticality, criticality
from surgery.analysis.scan import scan
from surgery.analysis.slices import Fill, critical, levels
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.gate import gate
from surgery.edit.parts import Held, not_within
from surgery.network.certificate import sample
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


def cosine(a: Tensor, b: Tensor) -> float:
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size else 1.0


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_theta_takes_the_smallest_prefix_that_keeps_the_cosine(fill: Fill, pico_images: Dataset) -> None:
    """Grow every prefix one neuron at a time, mask the very maps, and compare them."""
    model = patient(PlainReLU())
    index, module = model.index, model.module
    x, y = samples(model, pico_images)
    with torch.no_grad():
        one = F.relu(module.one(x))
        two = F.relu(module.two(one))
        mid = F.relu(module.mid(two.flatten(1)))
    found = scan(model, pico_images, Context())
    score = scored(model, pico_images).scores["avg"]
    level = levels(model, pico_images, found, score, Context(), fill=fill)
    for theta in (0.7, 0.9, 0.97, 0.995):
        members = critical(level, theta)
        for layer, maps in (("one", one), ("two", two), ("mid", mid)):
            rows = index.layers[layer].rows
            instead = maps.flatten(2).mean((0, 2)) if maps.dim() > 2 else maps.mean(0)
            instead = instead.view(-1, *[1] * (maps.dim() - 2)) * (fill == "mean")
            for c in range(3):
                order = sorted(range(len(rows)), key=lambda u: -float(score[rows[u], c]))
                best = 0
                for k in range(1, len(rows) + 1):
                    kept = torch.zeros(len(rows), dtype=torch.bool)
                    kept[order[:k]] = True
                    mask = kept.view(-1, *[1] * (maps.dim() - 2))
                    own = [cosine(torch.where(mask, m, instead), m) for m in maps[y == c]]
                    if np.mean(own) >= theta - 1e-6:
                        best = k
                        break
                assert set(rows[members[rows, c]].tolist()) == {int(rows[u]) for u in order[:best]}, (theta, layer, c)
    assert not critical(level, 2.0)[index.logits].any()


def literal_cka(a: np.ndarray, b: np.ndarray) -> float:
    """methods.md, with loops: G = XXᵀ, zero diagonal, m_i, centre, zero the diagonal again."""

    def centred(x: np.ndarray) -> np.ndarray:
        n = len(x)
        g = np.array([[0.0 if i == j else float(x[i] @ x[j]) for j in range(n)] for i in range(n)])
        m = np.array([sum(g[i]) / (n - 2) for i in range(n)])
        m = m - sum(m) / (2 * (n - 1))
        return np.array([[0.0 if i == j else g[i, j] - m[i] - m[j] for j in range(n)] for i in range(n)])

    p, q = centred(a), centred(b)
    return float((p * q).sum() / np.sqrt((p * p).sum() * (q * q).sum()))


def test_debiased_cka_as_written() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(12, 5)), generator.normal(size=(12, 7))
    b[:, :3] += a[:, :3]
    grams = [torch.from_numpy(values @ values.T) for values in (a, b)]
    assert float(debiased_cka(*grams)) == pytest.approx(literal_cka(a, b), abs=1e-12)
    assert float(debiased_cka(grams[0], grams[0])) == pytest.approx(1.0)
    turned = torch.from_numpy(a @ np.linalg.qr(generator.normal(size=(5, 5)))[0])
    assert float(debiased_cka(grams[0], turned @ turned.T)) == pytest.approx(1.0), "a rotation changes nothing"
    flat = torch.ones(6, 6, dtype=torch.float64)
    assert float(debiased_cka(flat, flat)) == 0.0, "a constant representation is like nothing"


def test_theta_by_cka_and_by_mass(pico_images: Dataset) -> None:
    model = patient(PlainReLU())
    x, y = samples(model, pico_images)
    rows = model.index.layers["one"].rows
    with torch.no_grad():
        means = F.relu(model.module.one(x)).mean((2, 3)).double().numpy()
    found = scan(model, pico_images, Context())
    score = scored(model, pico_images).scores["avg"]
    by_cka = levels(model, pico_images, found, score, Context(), criterion="cka")
    by_mass = levels(model, pico_images, found, score, Context(), criterion="mass")
    for c in range(3):
        own = means[y.numpy() == c]
        order = sorted(range(4), key=lambda u: -float(score[rows[u], c]))
        best = total = 0.0
        for k, u in enumerate(order):
            assert float(by_cka[rows[u], c]) == pytest.approx(best, abs=1e-5)
            assert float(by_mass[rows[u], c]) == pytest.approx(total, abs=1e-5)
            best = max(best, literal_cka(own[:, order[: k + 1]], own))
            total += float(score[rows[u], c] / score[rows, c].sum())


@pytest.mark.parametrize("seed", range(3))
def test_one_step_of_the_incremental_task_weight_by_weight(seed: int) -> None:
    """Held are weights from critical to critical neurons, critical biases, affine, statistics, A's logits on critical
    inputs; here one scalar after the other, against `Held` around a momentum step with weight decay.
    """
    model = pico.pico_model()
    index = model.index
    critical = sample(index, 0.4, seed=seed)
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    y, rate, decay = torch.arange(8) % 3, 0.05, 0.1
    module = copy.deepcopy(model.module)
    F.cross_entropy(module(x), y).backward()
    wanted = {name: value.clone() for name, value in module.state_dict().items()}
    feeds = {"stem": None, "one": "stem", "two": "one", "head": "stem"}  # who writes what a layer reads
    writers = {"norm": "stem", **{name: name for name in feeds}}
    for name, parameter in module.named_parameters():
        layer, _, kind = name.partition(".")
        rows = index.layers[writers[layer]].rows
        for place in itertools.product(*map(range, parameter.shape)):
            held = bool(critical[rows[place[0]]])
            if kind == "weight" and layer != "norm" and feeds[layer] is not None:
                source = index.layers[feeds[layer]].rows[place[1]]
                held = held and bool(critical[index.group[source]])
            if not held:
                old = parameter.detach()[place]
                wanted[name][place] = old - rate * (parameter.grad[place] + decay * old)
    trained = copy.deepcopy(model.module)
    keeper = Held(trained, not_within(model, critical))
    moving = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(moving, rate, momentum=0.9, weight_decay=decay)
    F.cross_entropy(trained(x), y).backward()
    optimizer.step()
    keeper.put_back()
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-7, msg=name)
        if not name.startswith("norm.running"):
            assert torch.equal(
                value == model.module.state_dict()[name], wanted[name] == model.module.state_dict()[name]
            )
