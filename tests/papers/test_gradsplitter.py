"""A literal replica of GradSplitter's rule for masks (arXiv 2311.04438), and what it does on a gated network."""

from __future__ import annotations

import torch

from surgery.edit.gate import gate
from surgery.edit.straight import through
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
