"""Slim dense layers to the units that vary: sweep a tolerance, choose from the curve (ODF2NNA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError, SelectionError
from surgery.operations.base import FINER, FineTuningRate, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.operations.slimming import Slimming


class SlimMlp(Operation):
    """Remove the units of dense layers whose output hardly varies, and train a little afterwards.

    A unit stays when it varies more than ε times the average of its layer; what it left behind on average goes into the
    biases. Each ε is a candidate: you may take any of them as a version. Of a plain MLP whole layers go too, where one
    linear map does their work.
    """

    title: ClassVar[str] = "Slim dense layers"
    paper: ClassVar[str] = "ODF2NNA (arXiv 2310.12560)"
    needs = "cuts"

    epsilon: float | None = Field(
        None,
        ge=0,
        le=10,
        title="Tolerance ε",
        description="A unit stays when it varies more than ε times its layer's average. Without one a sweep is made, "
        "and the smallest network within the limit is the result.",
    )
    lowest: float = Field(0.5, ge=0, le=10, title="Sweep from ε", description="Its start.", json_schema_extra=FINER)
    highest: float = Field(1.3, ge=0, le=10, title="Sweep to ε", description="Its end.", json_schema_extra=FINER)
    steps: int = Field(9, ge=1, le=50, title="Steps of the sweep", description="Candidates.", json_schema_extra=FINER)
    tolerance: float = Field(
        0.5,
        ge=0,
        le=100,
        title="Quality that may be lost (points)",
        description="Of accuracy (or R² × 100) on validation samples, after tuning; one sample may always change. "
        "Where one weighs more than this, the labels must also be as likely as with the likeliest candidate before.",
    )
    reference: Literal["mean", "max"] = Field(
        "mean",
        title="ε is a share of",
        description="The mean of the layer, or its largest unit, which one outlier can decide.",
        json_schema_extra=FINER,
    )
    layers: bool = Field(
        True, title="Drop useless layers", description="Of a plain MLP: whole layers whose work one linear map can do."
    )
    epochs: float = Field(
        10.0, ge=0, le=1000, title="Tuning per candidate (epochs)", description="Without it accuracy falls steeply."
    )
    rate: FineTuningRate = None
    decay: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Weight decay",
        description="Of the tuning (AdamW): large networks on tables overfit without it.",
        json_schema_extra=FINER,
    )
    controls: bool = Field(
        False,
        title="Run the controls too",
        description="Equally many random units, the same topology from scratch, and equal training without surgery.",
    )
    candidate: int | None = Field(
        None, ge=1, title="End at candidate", description="Number of a candidate.", json_schema_extra=FINER
    )

    @property
    def epsilons(self) -> list[float]:
        """The tolerances that are tried, rising."""
        if self.epsilon is not None:
            return [self.epsilon]
        if self.steps == 1:
            return [self.highest]
        low, high = sorted((self.lowest, self.highest))
        return [round(low + (high - low) * step / (self.steps - 1), 4) for step in range(self.steps)]

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raises DataError: there is nothing to validate on, or the target never changes."""
        if data.task == "unlabelled" or not len(data.ids("val")):
            raise DataError(
                "Slimming needs labelled validation samples, to choose ε.",
                "Import the data with its labels, or so that a part is kept for validation.",
            )
        labels = data.labels(data.ids("val"))
        if data.task == "regression" and float(labels.std()) == 0.0:
            raise DataError(
                f"The target is {float(labels[0]):g} for all validation samples: no quality can be told apart.",
                "Choose a dataset whose target changes.",
            )

    def examine(self, models: Sequence[Model]) -> None:
        """Raises SelectionError: it has no dense hidden units."""
        from surgery.analysis.variability import dense_units

        assert models[0].index is not None
        if not bool(dense_units(models[0].index).any()):
            raise SelectionError(
                "This network has no dense hidden layer whose units can go one by one.",
                "Make it smaller with Compress, which takes convolutions too.",
            )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Sweep, choose, tell. Raises what `on` and `Slimming.run` raise."""
        return self.on(models[0], data, ctx).run()

    def on(self, model: Model, data: Dataset, ctx: Context, *, samples: int | None = None) -> Slimming:
        """The work on one model. samples: training samples that variability is measured on, by default many.

        Raises:
            DataError: there is nothing to validate on, or the target never changes.
        """
        from surgery.operations.slimming import SETTLED, Slimming

        self.examine_data([model], data)
        return Slimming(self, model, data, ctx, samples=samples or SETTLED)
