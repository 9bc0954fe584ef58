"""Which share of a network's parameters belongs to numbered neurons, and where the others are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from surgery.edit.shrink import shrink
from surgery.network.description import checked, describe, unnumbered
from surgery.network.trace import trace
from surgery.ui import coverage
from tests.patients import mlp


class Recurrent(nn.Module):
    """A small convolution before a large LSTM, with a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm, self.head = (
            nn.Conv1d(2, 8, 3, padding=1),
            nn.LSTM(8, 32, batch_first=True),
            nn.Linear(32, 3),
        )
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.conv(x).relu().transpose(1, 2))
        return self.head(out[:, -1]) + self.shift


class Attending(nn.Module):
    """Attention whose projections are one bare weight, after an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def test_an_lstm_is_named_with_its_parameters() -> None:
    module = Recurrent().eval()
    index, support = trace(module, torch.randn(2, 2, 6))
    assert index is not None
    rest = unnumbered(module, index)
    assert support.level == "full"
    assert rest == {"lstm": parameters(module.lstm)} | ({"shift": 3} if "shift" in rest else {})
    total = parameters(module)
    found = {"parameters": total, "numbered": total - sum(rest.values()), "unnumbered": rest}
    assert coverage.share(found) == pytest.approx(
        (parameters(module.conv) + parameters(module.head) + 3) / total, abs=1e-3
    )
    assert coverage.sentence(found) == "2.9% of the parameters are in numbered neurons. Not numbered: lstm (5,376)."


def test_what_a_trace_cannot_number_is_in_the_rest() -> None:
    module = Attending().eval()
    index, _ = trace(module, torch.randint(50, (2, 5)))
    rest = unnumbered(module, index)
    assert set(rest) <= {"words", "attention", "attention.out_proj"}
    assert rest["words"] == 800
    assert rest["attention"] >= 3 * 16 * 16


def test_a_plain_network_is_all_numbered_also_after_a_cut() -> None:
    model = mlp()
    about = describe(model)
    assert (about.numbered, about.unnumbered) == (about.parameters, {})
    keep = torch.ones(model.index.n, dtype=torch.bool)
    keep[1] = False
    small = describe(shrink(model, model.index.close(keep))[0])
    assert small.numbered == small.parameters < about.parameters


def test_a_network_without_an_index_is_not_numbered_at_all() -> None:
    model = replace(mlp(), index=None)
    about = json.loads(describe(model).model_dump_json())
    assert about["numbered"] == 0
    assert coverage.sentence(about).startswith("0% of the parameters are in numbered neurons. Not numbered: ")


def test_a_version_of_before_says_nothing() -> None:
    about = json.loads(describe(mlp()).model_dump_json())
    del about["numbered"], about["unnumbered"]
    old = json.loads(checked(about).model_dump_json())
    assert coverage.share(old) is None
    assert coverage.sentence(old) == coverage.left_whole(old) == ""


def test_small_rests_are_not_named_and_no_share_is_rounded_to_all_or_nothing() -> None:
    large = {f"block{n}.attention": 100_000 for n in range(4)}
    found = {"parameters": 1_000_000, "numbered": 599_999, "unnumbered": large | {"norm": 1}}
    assert coverage.sentence(found) == (
        "60% of the parameters are in numbered neurons. Not numbered: block0.attention (100 k), "
        "block1.attention (100 k), block2.attention (100 k) and 1 more."
    )
    assert coverage.sentence({"parameters": 1_000_000, "numbered": 999_999, "unnumbered": {"norm": 1}}) == (
        "99.9% of the parameters are in numbered neurons."
    )
    assert coverage.percent(1.0) == "100%"
    assert coverage.percent(1e-6) == "0.1%"
    assert coverage.percent(0.0) == "0%"
