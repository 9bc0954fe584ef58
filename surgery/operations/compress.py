"""Make a network smaller, step by step, and let the person choose where to stop (NeuSemSlice's restructuring)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError, SelectionError
from surgery.operations.base import FINER, FineTuningRate, Operation, Outcome, Selection

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model

Order = Literal["effect", "taylor", "l2", "lamp", "global", "uniform+", "erk", "random"]


class Compress(Operation):
    """Remove the neurons that matter least until a size is reached, with a little training after each step.

    First goes what no class needs, then what the remaining neurons can take over best; what they take over is worked
    into their weights. Every step is a candidate: you may take any of them as a version, not only the last.
    """

    title: ClassVar[str] = "Compress to a size"
    paper: ClassVar[str] = "NeuSemSlice (arXiv 2407.20281), restructuring"
    needs = "cuts"

    parameters: float = Field(
        0.5, ge=0.01, lt=1, title="Parameters left", description="The size to come down to: 0.5 is half of them."
    )
    macs: float | None = Field(
        None, gt=0, lt=1, title="Computation left, at most", description="Share of the multiply-accumulates."
    )
    latency: float | None = Field(
        None,
        gt=0,
        lt=1,
        title="Time left, at most",
        description="Share of the time of one sample, measured while it runs: it stops as soon as this is reached.",
        json_schema_extra=FINER,
    )
    tolerance: float | None = Field(
        2.0,
        ge=0,
        le=100,
        title="Quality that may be lost (points)",
        description="Of accuracy (or R² × 100) on validation samples; the last step within it is the result.",
    )
    floor: float | None = Field(
        None,
        ge=0,
        le=1,
        title="Quality that must stay",
        description="Accuracy (or R²) on validation samples, 0 to 1.",
        json_schema_extra=FINER,
    )
    order: Order = Field(
        "effect",
        title="Which go first",
        description="effect: what the others can take over best, for its cost. taylor, l2: least effect on the loss, "
        "smallest weights. lamp, global, uniform+, erk: the pruners the paper combines with. random: a control.",
    )
    layers: Literal["together", "alike"] = Field(
        "together",
        title="Layers",
        description="Rank all layers together, or take the same share of each.",
        json_schema_extra=FINER,
    )
    slices: Literal["ranked", "theta", "no"] = Field(
        "ranked",
        title="Begin with what no class needs",
        description="ranked: the neurons least critical for every class, as many as may go at once for a loss of one "
        "point. theta: those outside every class's slice at Θ, the paper's rule, which often frees nothing.",
    )
    theta: float = Field(
        0.99,
        ge=0.5,
        lt=1,
        title="Slices keep (Θ)",
        description="Similarity that a class's slice keeps of each layer.",
        json_schema_extra=FINER,
    )
    twins: bool = Field(
        True,
        title="Merge twins",
        description="Of two neurons that always say the same, one takes over for both.",
        json_schema_extra=FINER,
    )
    protect: Selection = Field(
        default_factory=Selection, title="Never touch these", description="Neurons that stay, with those coupled."
    )
    steps: int = Field(3, ge=1, le=50, title="Steps", description="Candidates on the way to the size.")
    epochs: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Tuning per step (epochs)",
        description="Training after each step, to heal; 0.5 is half.",
    )
    rate: FineTuningRate = None
    result: Literal["smaller", "masked"] = Field(
        "smaller",
        title="Result",
        description="smaller: neurons are gone, bytes and time fall. masked: they are silenced only; the file stays as "
        "large and as slow as it was.",
        json_schema_extra=FINER,
    )
    controls: bool = Field(
        False,
        title="Run the controls too",
        description="Without slices, random neurons, and equal training without surgery: takes four times as long.",
    )

    candidate: int | None = Field(
        None,
        ge=1,
        title="End at candidate",
        description="Stop at this step of the way, whether within the limits or not.",
        json_schema_extra=FINER,
    )

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raises DataError: there is nothing to validate on."""
        if data.task == "unlabelled" or not len(data.ids("val")):
            raise DataError(
                "Compressing needs labelled validation samples, to know when to stop.",
                "Import the data with its labels, or so that a part is kept for validation.",
            )

    def examine(self, models: Sequence[Model]) -> None:
        """Look at what is protected.

        Raises:
            SelectionError: an id that the version does not have, or nothing is left that may go.
        """
        import torch

        index = models[0].index
        assert index is not None

        ids = self.protect.ids
        if ids and max(ids) >= index.n:
            raise SelectionError(
                f"Neuron {max(ids)} does not exist: this version has neurons 0 to {index.n - 1}.",
                "Choose a selection of this version, or map it through its old ids.",
            )
        stays = index.fixed.clone()
        stays |= torch.isin(index.group, index.group[list(ids)])
        if bool(stays.all()):
            raise SelectionError("Every neuron is protected or fixed: nothing may go.", "Protect fewer neurons.")

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Walk down to the size; the last accepted candidate is the result.

        Raises:
            DataError: there is nothing to validate on. SelectionError: the size cannot be reached, or not even the
            first step was within the tolerance.
        """
        from surgery.operations.descent import CONTROLS, Descent

        self.examine_data(models, data)
        descent = Descent(self, models[0], data, ctx)
        best = descent.walk()
        table = descent.table()
        if best is None:
            raise SelectionError(descent.refused(), "Allow more loss, tune longer, take more steps, or a larger size.")
        if self.controls:
            table = descent.with_controls(table, CONTROLS)
        if self.result == "masked":
            ctx.log("masked only: neither the file nor the computing time gets smaller")
        return Outcome((best.model,), best.kept, {"candidates": table})
