from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from surgery.context import Context
from surgery.errors import Cancelled
from surgery.network import latency as timing
from surgery.network.latency import Latency, latency, threads
from tests.patients import mlp


class Noted(nn.Module):
    """Writes down who was called, with how many samples."""

    def __init__(self, name: str, calls: list[tuple[str, int]]) -> None:
        super().__init__()
        self.name, self.calls = name, calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.name, len(x)))
        return x


def noted(monkeypatch: pytest.MonkeyPatch, rounds: int) -> tuple[dict[str, Latency], list[tuple[str, int]]]:
    from dataclasses import replace

    monkeypatch.setattr(timing, "ROUNDS", rounds)
    calls: list[tuple[str, int]] = []
    models = {name: replace(mlp(), module=Noted(name, calls)) for name in ("a", "b")}
    return latency(models, 32, Context()), calls


def test_models_take_turns_after_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found, calls = noted(monkeypatch, 6)
    warm = timing.WARM_UP
    assert calls[: 2 * warm] == [("a", 32)] * warm + [("b", 32)] * warm
    assert calls[2 * warm :] == [("a", 32), ("b", 32)] * 6
    assert found["a"].rounds == found["b"].rounds == 6
    assert found["a"].median > 0
    assert found["a"].iqr >= 0


def test_a_slow_model_is_timed_less_often_but_never_below_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    found, _ = noted(monkeypatch, 30)
    assert found["a"].rounds == timing.LEAST


def test_median_and_iqr_are_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = iter([9.0] * 3 + [0.001, 0.002, 0.003, 0.004, 0.005])
    monkeypatch.setattr(timing, "_seconds", lambda module, x, device: next(lengths))
    monkeypatch.setattr(timing, "ROUNDS", 5)
    found = latency({"m": mlp()}, 1, Context())["m"]
    assert (found.median, found.iqr) == (pytest.approx(3.0), pytest.approx(2.0))


def test_cancel_between_rounds() -> None:
    with pytest.raises(Cancelled, match="timing, batch 1"):
        latency({"m": mlp()}, 1, Context(cancelled=lambda: True))


def test_threads_are_stated() -> None:
    count = torch.get_num_threads()
    assert threads("cpu").startswith(f"cpu, {count} thread")
    assert threads("cuda:0") == "cuda:0"
