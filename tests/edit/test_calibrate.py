"""Calibration: outputs that were trained apart are put on one scale, and the last layer says just that."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from surgery.edit.calibrate import affine, applied, folded
from tests import pico


def test_a_wrong_scale_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(600) % 4
    right = F.one_hot(truth, 4) * 3.0 + torch.randn(600, 4, generator=generator)
    wrong = right.clone()
    wrong[:, 2:] = (wrong[:, 2:] - 5) * 0.4
    moving = torch.tensor([2, 3])
    slope, shift = affine(wrong, truth, moving)
    again = applied(wrong.double(), moving, slope, shift)
    assert (wrong.argmax(1) == truth).double().mean() < 0.6
    reached, possible = ((out.argmax(1) == truth).double().mean() for out in (again, right))
    assert reached >= possible - 0.02
    assert torch.equal(again[:, :2].float(), wrong[:, :2])


def test_many_samples_of_one_class_do_not_outvote_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.cat([torch.zeros(900, dtype=torch.long), torch.ones(30, dtype=torch.long)])
    logits = F.one_hot(truth, 2) * 1.0 + torch.randn(930, 2, generator=generator)
    _, shift = affine(logits, truth, torch.tensor([1]))
    assert abs(float(shift)) < 0.5


def test_classes_that_are_told_apart_perfectly_have_an_end() -> None:
    truth = torch.arange(40) % 2
    slope, shift = affine(F.one_hot(truth, 2) * 10.0, truth, torch.tensor([1]))
    assert torch.isfinite(slope).all()
    assert torch.isfinite(shift).all()
    assert abs(float(slope)) < 100


def test_the_last_layer_says_what_was_fitted() -> None:
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    moving, slope, shift = torch.tensor([1, 2]), torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 3.0])
    for make in (pico.Residual, pico.Shuffled):
        model = pico.pico_model(make())
        with torch.no_grad():
            wanted = applied(model(x), moving, slope, shift)
            assert torch.allclose(folded(model, moving, slope, shift)(x), wanted, atol=1e-5)
