"""Heads: from the outputs of a part to one score for its class."""

from __future__ import annotations

import torch

from surgery.context import Context
from surgery.edit.heads import HIDDEN, plain, restored, scores, teach
from surgery.network.composed import Head


def test_a_plain_head_says_what_the_class_says() -> None:
    outputs = torch.randn(5, 4)
    assert torch.equal(plain(4, 2)(outputs)[:, 0], outputs[:, 2])


def test_a_head_comes_back_from_its_tensors() -> None:
    for hidden in (0, HIDDEN):
        head = Head(4, hidden)
        again = restored(head.state_dict())
        outputs = torch.randn(5, 4)
        assert torch.equal(again(outputs), head(outputs))


def test_hidden_units_give_scores_between_0_and_1_by_hand() -> None:
    torch.manual_seed(0)
    head, outputs = Head(4, HIDDEN), 10 * torch.randn(50, 4)
    first, last = head.hidden, head.score
    assert first is not None
    middle = (outputs.clamp(min=0) @ first.weight.T + first.bias).clamp(min=0)
    wanted = 1 / (1 + (-(middle @ last.weight.T + last.bias)).exp())
    found = head(outputs).detach()
    assert torch.allclose(found, wanted, atol=1e-6)
    assert bool(((found > 0) & (found < 1)).all())


def test_teaching_makes_scores_of_different_scale_compete() -> None:
    torch.manual_seed(0)
    truth = torch.randint(0, 3, (600,))
    clear = torch.nn.functional.one_hot(truth, 3) + 0.3 * torch.randn(600, 3)
    outputs = torch.stack([clear * factor + shift for factor, shift in ((1.0, 0.0), (9.0, 4.0), (0.2, -3.0))])
    heads = [plain(3, own) for own in range(3)]

    def right() -> float:
        with torch.no_grad():
            return float((scores(heads, outputs).argmax(1) == truth).float().mean())

    before = right()
    teach(heads, outputs, truth, Context(), epochs=30, rate=0.05)
    assert before < 0.5
    assert right() > 0.9
    first = [p.clone() for p in heads[0].parameters()]
    again = [plain(3, own) for own in range(3)]
    teach(again, outputs, truth, Context(), epochs=30, rate=0.05)
    assert all(torch.equal(a, b) for a, b in zip(first, again[0].parameters(), strict=True)), "same seed, same heads"
