"""Watch old quality while a network learns something new, and go back to the last good state when it sinks too far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

MOST = 3  # returns, after which training ends
PATIENCE = 5  # looks in a row that may be too bad: the first steps disturb more than they will have in the end


@dataclass
class Guard:
    """look: module in eval mode -> quality, 0–1. least: what it may not stay below. every: steps between two looks.

    Of good states the one whose `prefer` (quality on what is being learnt) is highest is kept; without it the last
    good one. last: the state of the last look, good or not. most: looks after which training ends. after: told of the
    guard after each look.
    """

    look: Callable[[nn.Module], float]
    least: float
    every: int
    prefer: Callable[[nn.Module], float] | None = None
    report: Callable[[float, float | None], None] = lambda old, new: None
    most: int | None = None
    after: Callable[[Guard], None] = lambda guard: None
    looks: int = 0
    returns: int = 0
    strikes: int = 0
    good: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)
    score: float = float("-inf")

    def begin(self, module: nn.Module) -> None:
        """The state to go back to, before the first step."""
        self.good = self.last = _copy(module)
        self.score = self.prefer(module) if self.prefer else float("-inf")

    def passes(self, module: nn.Module) -> bool:
        """Look; keep a good state. After PATIENCE bad ones in a row put the last good one back, and say so: False."""
        passed = self._judge(module)
        self.looks += 1
        self.after(self)
        return passed

    def _judge(self, module: nn.Module) -> bool:
        old = self.look(module)
        new = self.prefer(module) if self.prefer else None
        self.report(old, new)
        self.last = _copy(module)
        if old >= self.least - 1e-9:
            self.strikes = 0
            if new is None or new >= self.score:
                self.good, self.score = self.last, self.score if new is None else new
            return True
        self.strikes += 1
        if self.strikes < PATIENCE:
            return True
        module.load_state_dict(self.good)
        self.returns, self.strikes = self.returns + 1, 0
        return False

    @property
    def spent(self) -> bool:
        """Whether it has gone back so often that more training makes no sense, or has looked often enough."""
        return self.returns >= MOST or (self.most is not None and self.looks >= self.most)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
