"""Watch old quality while a network learns something new, and go back to the last good state when it sinks too far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

MOST = 4  # returns, after which training ends


@dataclass
class Guard:
    """look: module in eval mode -> quality, 0–1. least: what it may not fall below. every: steps between two looks.

    best: among good states the one whose `prefer` (quality on what is being learnt) is highest is kept; without it the
    last good one.
    """

    look: Callable[[nn.Module], float]
    least: float
    every: int
    prefer: Callable[[nn.Module], float] | None = None
    report: Callable[[float, float | None], None] = lambda old, new: None
    returns: int = 0
    good: dict[str, Tensor] = field(default_factory=dict)
    score: float = float("-inf")

    def begin(self, module: nn.Module) -> None:
        """The state to go back to, before the first step."""
        self._keep(module)
        self.score = self.prefer(module) if self.prefer else float("-inf")

    def passes(self, module: nn.Module) -> bool:
        """Look; keep a good state, or put the last good one back and say so."""
        old = self.look(module)
        new = self.prefer(module) if self.prefer else None
        self.report(old, new)
        if old < self.least - 1e-9:
            module.load_state_dict(self.good)
            self.returns += 1
            return False
        if new is None or new >= self.score:
            self._keep(module)
            self.score = self.score if new is None else new
        return True

    @property
    def spent(self) -> bool:
        """Whether it has gone back so often that more training makes no sense."""
        return self.returns >= MOST

    def _keep(self, module: nn.Module) -> None:
        self.good = {name: tensor.clone() for name, tensor in module.state_dict().items()}
