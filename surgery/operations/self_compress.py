"""Learn how few bits every row of weights needs without breaking what must be kept (safety-guided compression)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError, SelectionError
from surgery.operations.base import FINER, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.operations.squeeze import Squeeze


class SelfCompress(Operation):
    """Let the network learn how many bits each row of its weights needs; rows that need none are removed.

    A guard compares with the original on the must-keep cases (or validation samples) all the way, and goes back to the
    last safe state when more is lost than allowed. The new version is stored in these bits: the file really is small.
    """

    title: ClassVar[str] = "Compress to few bits"
    paper: ClassVar[str] = "arXiv 2505.00350, on Self-Compressing Networks (arXiv 2301.13142)"
    needs = "cuts"

    kilobytes: float | None = Field(
        None,
        gt=0,
        title="At most (kB)",
        description="Size of the weights as they are stored. Without one it shrinks as far as γ and the guard let it.",
    )
    tolerance: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Quality that may be lost (points)",
        description="Against the original, on the must-keep cases, or on validation samples where there are none. "
        "Of a text, points of 1 ÷ perplexity.",
    )
    gamma: float = Field(
        3.0,
        ge=0,
        le=100,
        title="Pressure on the size (γ)",
        description="More: smaller, sooner. 0: bits stay as they are.",
    )
    start: float = Field(
        4.0, ge=1, le=16, title="Bits at the start", description="Of every row; more where that loses too much already."
    )
    epochs: float = Field(4.0, ge=0.1, le=1000, title="Epochs that learn bits", description="Weights learn along.")
    frozen: float = Field(
        2.0, ge=0, le=1000, title="Epochs with bits held", description="Tuning after rows without bits have gone."
    )
    rate: float = Field(
        5e-4, gt=0, le=1, title="Learning rate", description="Of the weights, at its start.", json_schema_extra=FINER
    )
    rate_bits: float | None = Field(
        None,
        gt=0,
        le=1,
        title="Learning rate of bits",
        description="Bits per step at its start; without one as fast as the epochs need.",
        json_schema_extra=FINER,
    )
    form: Literal["rows", "pairs"] = Field(
        "rows",
        title="Size",
        description="rows: bits of every row. pairs: a row pays only for inputs that are left, and they for it.",
        json_schema_extra=FINER,
    )
    distil: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Learn from the original's answers",
        description="Their weight beside the labels.",
        json_schema_extra=FINER,
    )
    looks: int = Field(
        20, ge=1, le=100, title="Looks of the guard", description="While bits are learned.", json_schema_extra=FINER
    )
    candidate: int | None = Field(
        None, ge=1, title="End at candidate", description="Number of a safe look.", json_schema_extra=FINER
    )

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raises DataError: there is nothing to guard with. SelectionError: the cases are all of one class."""
        if data.task == "unlabelled" or not (len(data.ids("preserve")) or len(data.ids("val"))):
            raise DataError(
                "Learning bits needs labelled validation samples or must-keep cases, to know when to go back.",
                "Import the data with its labels, or so that a part is kept for validation.",
            )
        kept = data.ids("preserve")
        if (
            data.task == "classification"
            and data.kind != "text"
            and len(kept)
            and len(set(data.labels(kept).tolist())) == 1
        ):
            name = data.classes[int(data.labels(kept)[0])]
            raise SelectionError(
                f"All {len(kept)} must-keep cases are of the class {name!r}: a network that always says so would pass.",
                "Draw cases of every class.",
            )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Learn, remove, hold, tune. Raises what `on` and `Squeeze.run` raise."""
        return self.on(models[0], data, ctx).run()

    def on(self, model: Model, data: Dataset, ctx: Context) -> Squeeze:
        """The work on one model.

        Raises:
            DataError: there is nothing to guard with. SelectionError: the size is below what is possible.
        """
        from surgery.operations.squeeze import Squeeze

        self.examine_data([model], data)
        return Squeeze(self, model, data, ctx)
