"""Where a network is random, or depends on how many neurons it has, the step is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from surgery.network import certificate, steps
from surgery.network.trace import trace
from tests.network.test_computed import Between, fully_traced

RANDOM: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "functional dropout": (lambda x: F.dropout(x, 0.5), "dropout (step 2)"),
    "noise": (lambda x: x + 0.1 * torch.rand_like(x), "rand_like (step 2)"),
    "in-place noise": (lambda x: x + torch.empty(6).normal_(), "normal (step 3)"),
    "permutation": (lambda x: x[:, torch.randperm(6)], "randperm (step 2)"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_network_that_is_random_in_eval_mode_names_the_step(name: str) -> None:
    torch.manual_seed(0)
    function, words = RANDOM[name]
    index, support = trace(Between(function).eval(), torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
    assert index is not None
    assert support.level == "gate"
    assert support.reason == f"random in eval mode: {words} gives other values on each run"


COUNTING: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "square root of the width": (lambda x: x / x.shape[1] ** 0.5, "div (step 3)"),
    "width": (lambda x: x * x.size(1), "mul (step 3)"),
    "length": (lambda x: x + len(x[0]), "add (step 4)"),
    "position": (lambda x: x * torch.linspace(0, 1, x.shape[-1]), ""),
}


@pytest.mark.parametrize("name", COUNTING)
def test_what_depends_on_a_count_of_neurons_fixes_them_and_names_the_step(name: str) -> None:
    torch.manual_seed(0)
    function, step = COUNTING[name]
    index = fully_traced(Between(function), torch.randn(2, 4))
    assert index.fixed[index.layers["a"].rows].all()
    assert not index.fixed[index.layers["b"].rows].any()
    reason = index.why_fixed[0]
    assert reason == (
        f"{step} gives other values after a cut" if step else "mul meets a constant with one entry per neuron"
    )


def test_a_step_is_fixed_once_and_then_the_proof_has_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "diverging", lambda *a: steps.Step(2, "tanh"))
    monkeypatch.setattr(certificate, "trial", lambda *a: certificate.Stop("the outputs differ"))
    index, support = trace(Between(torch.tanh).eval(), torch.randn(2, 4))
    assert (support.level, support.reason) == ("gate", "the outputs differ")
    assert index is not None
    assert index.why_fixed[0] == "tanh (step 2) gives other values after a cut"


def test_where_two_runs_part() -> None:
    module, x = Between(torch.tanh), torch.randn(2, 4)
    one, other = (steps.run(module, x, lambda *_: 0) for _ in range(2))
    assert [step.name for step in one] == ["linear", "relu", "tanh", "linear", "relu", "linear"]
    assert steps.parted(one, other) is None
    other[4] = steps.Step(4, "gelu")
    assert str(steps.parted(one, other)) == "gelu (step 4)"
    assert [str(step) for step in steps.run(module, torch.randn(2, 5), lambda *_: 0)] == ["linear (step 0)"]


def test_where_a_batch_of_one_loses_its_axis() -> None:
    module = Between(lambda x: x.squeeze())
    assert str(steps.reshaped(module, torch.randn(2, 4), torch.randn(1, 4))) == "squeeze (step 2)"
    assert steps.reshaped(module, torch.randn(2, 4), torch.randn(3, 4)) is None
