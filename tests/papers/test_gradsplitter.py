"""Literal replicas of GradSplitter's rule for masks, joint loss and choice (arXiv 2311.04438)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.gate import gate
from surgery.edit.heads import HIDDEN
from surgery.edit.straight import through
from surgery.network.composed import Head
from surgery.operations.division import Step
from surgery.operations.learned import Learner
from surgery.operations.split import Split
from tests.patients import digits
from tests.pico import Residual, pico_model


def test_the_step_is_on_above_zero_only() -> None:
    assert through(torch.tensor([-2.0, -1e-9, 0.0, 1e-9, 0.5, 2.0])).tolist() == [0, 0, 0, 1, 1, 1]


def test_the_gradient_passes_whatever_p_is_and_is_clipped() -> None:
    for value in (-3.0, 0.0, 3.0):
        p = torch.full((5,), value, requires_grad=True)
        (through(p) * torch.tensor([-7.0, -1.0, 0.25, 1.0, 7.0])).sum().backward()
        assert p.grad is not None
        assert p.grad.tolist() == [-1.0, -1.0, 0.25, 1.0, 1.0], f"at p = {value}"


def test_what_is_off_still_receives_a_gradient_and_residual_members_share_one_mask() -> None:
    torch.manual_seed(0)
    model = pico_model(Residual())
    index = model.index
    assert index is not None
    p = torch.ones(index.n, requires_grad=True)
    off = int(index.layers["stem"].rows[0])
    with torch.no_grad():
        p[off] = -1.0
    with gate(model.module, index, through(p)[index.group]):
        model.module(torch.randn(8, *model.input.shape)).square().sum().backward()
    assert p.grad is not None
    assert float(p.grad[off].abs()) > 0
    partner = int(index.layers["two"].rows[0])
    assert int(index.group[partner]) == off
    assert float(p.grad[partner]) == 0.0, "it has no mask of its own"


def test_the_joint_loss_is_cross_entropy_over_sigmoids_and_the_mean_of_all_masks(pico_images: Dataset) -> None:
    model, data = digits(), pico_images.without_test()
    plan = Split(method="gradient", front=0.0, pressure=0.1)
    work = plan.on(model, data, Context(seed=0))
    free = work.removable
    train = work.masked(work.chosen("train", 40), free)
    torch.manual_seed(3)
    heads = [Head(3, HIDDEN) for _ in range(3)]
    p = torch.randn(3, work.index.n) + 0.5
    learner = Learner(work, train, p.clone(), free, heads)
    x = next(iter(data.batches(train.ids[0], model.input, size=train.size)))[0]
    answers, on = [], []
    for k in range(3):
        mask = ((p[k] > 0)[work.index.group] | ~free).float()
        with torch.no_grad(), gate(model.module, work.index, mask, work.means):
            logits = model(x)
        first, second = heads[k].hidden, heads[k].score
        hidden = (logits.clamp(min=0) @ first.weight.T + first.bias).clamp(min=0)
        answers.append(1 / (1 + torch.exp(-(hidden @ second.weight.T + second.bias))))
        on.append(mask[free & work.index.point])
    sigmoids = torch.cat(answers, dim=1)
    truth = train.truths(0)
    log_share = sigmoids[torch.arange(len(x)), truth] - sigmoids.exp().sum(1).log()
    literal = -log_share.mean() + 0.1 * torch.cat(on).mean()
    torch.testing.assert_close(learner.loss(learner.values(), 0), literal)


def test_with_ten_perfect_modules_the_cross_entropy_is_still_1_461() -> None:
    perfect = torch.eye(10)
    assert float(F.cross_entropy(perfect, torch.arange(10))) == pytest.approx(1.461, abs=5e-4)


def test_the_choice_is_accuracy_within_the_tolerance_then_the_fewest_neurons(pico_images: Dataset) -> None:
    work = Split(tolerance=1.0).on(digits(), pico_images.without_test(), Context(seed=0))
    work.accuracy = 0.90
    keep, heads = torch.ones(3, work.index.n, dtype=torch.bool), ()
    found = [("a", 0.91, 0.9), ("b", 0.895, 0.6), ("c", 0.89, 0.5), ("d", 0.88, 0.2)]
    work.steps = [Step(name, keep, heads, accuracy, share, 0.0) for name, accuracy, share in found]
    assert work.best().name == "c"
    work.steps = [step for step in work.steps if step.name == "d"] + [Step("e", keep, heads, 0.7, 0.1, 0.0)]
    assert work.best().name == "d", "none within it: the one that loses least"
