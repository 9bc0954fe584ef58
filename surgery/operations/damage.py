"""Spoil a network on purpose, to try what repairs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from surgery.operations.base import Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.model import Model


class Damage(Operation):
    """Randomise the weights by a degree, to have something to repair: a trial for readapting.

    Each weight gets noise of `degree` times the spread of its tensor; scales, biases and statistics stay.
    """

    title: ClassVar[str] = "Damage for a trial"
    paper: ClassVar[str] = "NeuSemSlice (arXiv 2407.20281): weights randomised until the model is worse"

    degree: float = Field(0.5, ge=0, le=10, title="Degree", description="Noise in units of each tensor's spread.")

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Add the noise."""
        from surgery.edit.damage import damaged

        return Outcome((damaged(models[0], self.degree, ctx.seed),), None)
