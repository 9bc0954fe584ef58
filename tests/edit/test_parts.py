"""What is held does not move by a bit, whatever the optimiser; what is free does."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import quality
from surgery.edit.guard import Guard
from surgery.edit.parts import Held, not_within, rows_of, share_of
from surgery.edit.shrink import shrink
from surgery.edit.tune import tune
from surgery.network.certificate import sample
from surgery.network.model import Model
from tests import pico

X = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 3


def critical_of(model: Model) -> torch.Tensor:
    """bool[N]: about 60 % of the neurons, closed under coupling, logits among them."""
    return sample(model.index, 0.4, seed=1)


def train(module: nn.Module, held: Held, steps: int, optimizer: torch.optim.Optimizer) -> None:
    module.train()
    for _ in range(steps):
        with held.statistics():
            loss = F.cross_entropy(module(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        held.put_back()
    module.eval()


@pytest.mark.parametrize("steps", [1, 10, 100])
@pytest.mark.parametrize("make", pico.NETWORKS)
def test_the_slice_within_survives_any_number_of_steps_exactly(make: type[nn.Module], steps: int) -> None:
    model = pico.pico_model(make())
    critical = critical_of(model)
    before, _ = shrink(model, critical)
    module = copy.deepcopy(model.module)
    held = Held(module, not_within(model, critical))
    moving = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(moving, 0.05, momentum=0.9, weight_decay=0.1)
    train(module, held, steps, optimizer)
    trained = Model(module, model.architecture, model.input, model.task, model.classes, model.index, model.support)
    after, _ = shrink(trained, critical)
    for name, tensor in before.module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, after.module.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(before.module(X), after.module(X))
        assert not torch.equal(model.module(X), module(X)), "the rest must have learnt, or this proves nothing"


def test_the_freeze_rule_in_plain_loops() -> None:
    model = pico.pico_model()
    critical = critical_of(model)
    free, index = not_within(model, critical), model.index
    one, stem = index.layers["one"], index.layers["stem"]
    for i, row in enumerate(one.rows.tolist()):
        assert bool(free["one.bias"][i]) == (not critical[row])
        for j, column in enumerate(one.cols.tolist()):
            assert bool(free["one.weight"][i, j].all()) == (not (critical[row] and critical[column]))
    for i, row in enumerate(stem.rows.tolist()):
        assert bool(free["stem.weight"][i].all()) == (not critical[row]), "the model's input is always within"
        for name in ("weight", "bias", "running_mean", "running_var"):
            assert bool(free[f"norm.{name}"][i]) == (not critical[row])
    head = index.layers["head"]
    for j, column in enumerate(head.cols.tolist()):
        assert bool(free["head.weight"][:, j].all()) == (not critical[column]), "logit rows on critical inputs are held"
    assert not free["head.bias"].any()


def test_only_the_rows_of_chosen_neurons_move(pico_images: Dataset) -> None:
    model = pico.pico_model()
    chosen = torch.zeros(model.index.n, dtype=torch.bool)
    chosen[model.index.layers["one"].rows[:2]] = True
    chosen = torch.isin(model.index.group, model.index.group[chosen])
    free = rows_of(model, chosen)
    tuned = tune(model, pico_images, Context(seed=0), epochs=3, rate=1e-2, free=free)
    old, new = model.module.state_dict(), tuned.module.state_dict()
    for name, tensor in old.items():
        assert torch.equal(tensor[~free[name]], new[name][~free[name]]), name
    assert (old["one.weight"][:2] != new["one.weight"][:2]).any()
    expected = sum(old[name][:2].numel() for name in ("one.weight", "one.bias"))
    assert share_of(model, free) == pytest.approx(expected / sum(p.numel() for p in model.module.parameters()))
    assert all(p.requires_grad for p in tuned.module.parameters())


def test_held_neurons_are_normalised_by_the_statistics_they_had() -> None:
    model = pico.pico_model()
    norm = copy.deepcopy(model.module.norm)
    held = Held(nn.ModuleDict({"norm": norm}), {f"norm.{n}": t for n, t in _first_two(norm).items()})
    norm.train()
    x = torch.randn(8, 6, 4, 4)
    with held.statistics():
        mixed = norm(x)
    fresh = copy.deepcopy(model.module.norm)
    with torch.no_grad():
        assert torch.allclose(mixed[:, 2:], fresh.eval()(x)[:, 2:], atol=1e-5)
        assert torch.allclose(mixed[:, :2], fresh.train()(x)[:, :2], atol=1e-5)
        assert torch.allclose(norm.running_mean[:2], fresh.running_mean[:2], atol=1e-6)
        assert torch.allclose(norm.running_var[:2], fresh.running_var[:2], atol=1e-6)
    assert torch.equal(norm.running_mean[2:], model.module.norm.running_mean[2:])


def _first_two(norm: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.arange(tensor.numel()).reshape(tensor.shape) < 2 for name, tensor in norm.state_dict().items()}


def test_a_guard_goes_back_to_the_last_good_state(pico_images: Dataset) -> None:
    model = tune(pico.pico_model(), pico_images, Context(seed=1), epochs=300, rate=1e-2)
    ids = pico_images.ids("val")
    before = quality(model, pico_images, ids, Context())
    looks = iter([1.0, *[0.0] * 100])
    kept: list[dict[str, torch.Tensor]] = []

    def look(module: nn.Module) -> float:
        kept.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return next(looks)

    guard = Guard(look, least=before, every=2)
    tuned = tune(model, pico_images, Context(seed=2), epochs=50, rate=0.5, guard=guard)
    assert guard.returns == 3, "it gives up after three returns"
    assert len(kept) == 1 + 3 * 5, "five looks in a row were bad each time"
    assert all(torch.equal(tensor, kept[0][name]) for name, tensor in tuned.module.state_dict().items())


def test_each_return_halves_the_rate(pico_images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, closure: None = None) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    looks = iter([*[0.0] * 5, *[1.0] * 1000])
    guard = Guard(lambda _: next(looks), least=0.5, every=1)
    tune(pico.pico_model(), pico_images, Context(seed=2), epochs=200, rate=1e-2, guard=guard)
    assert guard.returns == 1
    assert rates[4] == pytest.approx(1e-2, rel=0.01)
    assert rates[5] == pytest.approx(0.5e-2, rel=0.01)


def test_a_guard_keeps_the_state_that_is_best_at_the_new(pico_images: Dataset) -> None:
    model = pico.pico_model()
    scores = iter([0.1, 0.5, 0.9, 0.3, *[0.2] * 50])
    kept: list[dict[str, torch.Tensor]] = []

    def prefer(module: nn.Module) -> float:
        kept.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return next(scores)

    guard = Guard(lambda _: 1.0, least=0.5, every=1, prefer=prefer)
    tuned = tune(model, pico_images, Context(seed=2), epochs=8, rate=1e-2, guard=guard)
    assert all(torch.equal(tensor, kept[2][name]) for name, tensor in tuned.module.state_dict().items())
